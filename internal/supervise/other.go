//go:build !linux

package supervise

// Signals is empty on this system.
type Signals struct{}

// Listen returns an empty Signals.
func Listen() *Signals { return &Signals{} }

// Until never calls f on this system.
func (*Signals) Until(f func()) (stop func() (called bool)) { return func() bool { return false } }

// Run returns ErrUnsupported.
func Run(*Options, *Signals) (Outcome, error) { return Outcome{}, ErrUnsupported }

// Supported tells whether Run works on this system.
func Supported() bool { return false }

// Find returns ErrUnsupported.
func Find(string) (code int, err error) { return 0, ErrUnsupported }

// Guardian returns false: this process is none.
func Guardian() (code int, is bool) { return 0, false }
