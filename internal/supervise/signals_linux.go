package supervise

import (
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// forwarded are the signals that the command's group gets.
var forwarded = []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH}

// Signals catches the signals that this process gets for the command. Those that it was told to ignore (as by nohup) stay
// ignored, here and in the command.
type Signals struct{ c chan os.Signal }

// Listen begins to catch.
func Listen() *Signals {
	s := &Signals{make(chan os.Signal, 32)}
	signal.Notify(s.c, append(heeded(forwarded), unix.SIGTSTP, unix.SIGCONT, unix.SIGPIPE)...)
	return s
}

// heeded are those of the signals that are not ignored.
func heeded(signals []os.Signal) []os.Signal {
	var heeded []os.Signal
	for _, s := range signals {
		if !signal.Ignored(s) {
			heeded = append(heeded, s)
		}
	}
	return heeded
}

// Until is for the time before there is a command: it calls f at the first signal that would end a process. Other signals are
// dropped, but for SIGTSTP, which stops the process. After stop has returned, which tells whether f was called, signals are kept
// for Run.
func (s *Signals) Until(f func()) (stop func() (called bool)) {
	done, ended := make(chan struct{}), make(chan struct{})
	called := false
	go func() {
		defer close(ended)
		for !called {
			select {
			case <-done:
				return
			case sig := <-s.c:
				switch sig {
				case unix.SIGTSTP:
					stopSelf()
				case unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT:
					called = true
					f()
				}
			}
		}
	}()
	return sync.OnceValue(func() bool {
		close(done)
		<-ended
		return called
	})
}
