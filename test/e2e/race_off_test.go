//go:build linux && !race

package e2e

// raceEnabled says that the tests run under the race detector, and so shall the server.
const raceEnabled = false
