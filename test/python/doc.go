// Package python runs the tests of the Python client (clients/python) against the program of this repository, so that they count
// among the tests of it. There is no code here but tests.
package python
