package supervise

import (
	"errors"
	"io/fs"
	"os/exec"
)

// Codes with which a shell tells that a command could not be run.
const (
	notExecutable = 126
	notFound      = 127
)

// Supported tells whether Run works on this system.
func Supported() bool { return true }

// Find looks for a command as Run will. The code is that of a shell if there is an error.
func Find(command string) (code int, err error) {
	_, err = find(command)
	return codeOf(err), err
}

// find returns the path of a command.
func find(command string) (string, error) {
	path, err := exec.LookPath(command)
	if errors.Is(err, exec.ErrDot) {
		err = nil // PATH says so, and so did whoever set it
	}
	return path, err
}

// codeOf is the code for an error of finding or executing a command.
func codeOf(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, exec.ErrNotFound):
		return notFound
	}
	return notExecutable
}
