package supervise

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// notice is what the command can read of its lease: a file in memory with the deadline, and a pipe that says when it is lost.
type notice struct {
	expires   *os.File
	lost      *os.File // the writing end; nil once it is told
	forReader []int    // the command's descriptors, until it is started
}

func newNotice(killAt instant) (n *notice, err error) {
	n = &notice{}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	fd, err := unix.MemfdCreate("doubledutch-expires", unix.MFD_CLOEXEC)
	if err != nil {
		return n, fmt.Errorf("memfd_create: %w", err)
	}
	n.expires = os.NewFile(uintptr(fd), "expires")
	if err := n.write("held", killAt); err != nil {
		return n, err
	}
	reader, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return n, fmt.Errorf("opening a file in memory: %w", err)
	}
	n.forReader = append(n.forReader, reader)
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return n, fmt.Errorf("pipe2: %w", err)
	}
	n.forReader = append(n.forReader, pipe[0])
	n.lost = os.NewFile(uintptr(pipe[1]), "lost")
	return n, nil
}

// variables tell the command the numbers of its descriptors.
func (n *notice) variables() []string {
	return []string{
		fmt.Sprintf("%s=%d", ExpiresVariable, n.forReader[0]),
		fmt.Sprintf("%s=%d", LostVariable, n.forReader[1]),
	}
}

// bequeath lets the next process that is started inherit the reader's descriptors, under the numbers that they have, which are
// nobody else's.
func (n *notice) bequeath() error {
	var errs []error
	for _, fd := range n.forReader {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// bequeathed closes this process's copies of them.
func (n *notice) bequeathed() {
	for _, fd := range n.forReader {
		_ = unix.Close(fd)
	}
	n.forReader = nil
}

func (n *notice) write(state string, killAt instant) error {
	_, err := n.expires.WriteAt([]byte(state+" "+killAt.String()+"\n"), 0)
	return err
}

// moved tells another deadline.
func (n *notice) moved(killAt instant) { _ = n.write("held", killAt) }

// tellLost tells that the command is to end.
func (n *notice) tellLost(killAt instant) {
	if n.lost == nil {
		return
	}
	_ = n.write("lost", killAt)
	_, _ = n.lost.WriteString("lost\n") // the pipe has room for it, and readers may be gone
	_ = n.lost.Close()
	n.lost = nil
}

func (n *notice) close() {
	n.bequeathed()
	if n.lost != nil {
		_ = n.lost.Close()
	}
	if n.expires != nil {
		_ = n.expires.Close()
	}
}
