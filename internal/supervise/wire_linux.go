package supervise

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// order is what the wrapper tells the guardian, one at a time.
type order struct {
	// Start is the first one.
	Start *start `json:"start,omitempty"`
	// KillAt moves the moment at which the command is killed.
	KillAt instant `json:"kill_at,omitempty"`
	// Lost: the lease is gone.
	Lost bool `json:"lost,omitempty"`
	// Signal is to be passed on to the command's group.
	Signal int `json:"signal,omitempty"`
	// Resume: the wrapper was stopped with the command and goes on. With Terminal, the command is given the terminal again.
	Resume   bool `json:"resume,omitempty"`
	Terminal bool `json:"terminal,omitempty"`
}

// start says how to run the command, which the guardian's own arguments and environment tell.
type start struct {
	KillAt   instant       `json:"kill_at"`
	Grace    time.Duration `json:"grace"`
	OnLost   OnLost        `json:"on_lost"`
	Leftover Leftover      `json:"leftover"`
	// Litter is removed in the end if the wrapper is gone.
	Litter string `json:"litter"`
	// Group is the process group of the wrapper, whose terminal the command may have. 0: there is no terminal.
	Group int `json:"group"`
	// Foreground: the command has the terminal from the beginning.
	Foreground bool `json:"foreground"`
}

// report is what the guardian tells the wrapper.
type report struct {
	// Started is the process id of the command, and id of its group.
	Started int `json:"started,omitempty"`
	// Stopped: the command was stopped by this signal, and has given up the terminal.
	Stopped int `json:"stopped,omitempty"`
	// Gone is the last one: nothing is left.
	Gone *Outcome `json:"gone,omitempty"`
}

// wire is one end of the socket between wrapper and guardian. A message is a packet of its own.
type wire int

// maxMessage is more than any message has.
const maxMessage = 16 << 10

// newWires returns the wrapper's end and the guardian's.
func newWires() (wrapper, guardian wire, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("socketpair: %w", err)
	}
	return wire(fds[0]), wire(fds[1]), nil
}

// send sends a message. It never waits: an error means that the other side is gone, or has not read for so long that nothing fits
// any more.
func (w wire) send(message any) error {
	b, err := json.Marshal(message)
	if err != nil {
		return err
	}
	return unix.Send(int(w), b, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

// receive reads a message into message. The error is io.EOF when the other side is gone and all that it has sent was read; with
// unix.MSG_DONTWAIT among the flags it is unix.EAGAIN when there is no message.
func (w wire) receive(message any, flags int) error {
	var buf [maxMessage]byte
	for {
		n, _, err := unix.Recvfrom(int(w), buf[:], flags)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ECONNRESET):
			// Said once, before what is left to read: the other side has ended and has not read all that was sent to it.
		case err == nil && n == 0:
			return io.EOF
		case err != nil:
			return err
		default:
			return json.Unmarshal(buf[:n], message)
		}
	}
}

func (w wire) close() { _ = unix.Close(int(w)) }
