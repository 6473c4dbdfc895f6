// Package readme runs what the documents tell their readers to type, and compares what comes out with what they promise; package
// document says how. There is no code here but tests.
package readme
