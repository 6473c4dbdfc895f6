package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"unicode"
)

var (
	// ErrRefused means that the two nodes do not belong together: one of them said no, and the text says why. Nothing
	// was delivered. Trying again helps only after somebody has done something about it.
	ErrRefused = errors.New("refused")
	// ErrUnreachable means that the request was certainly not delivered.
	ErrUnreachable = errors.New("unreachable")
	// ErrBroken means that the request was sent and no answer came: nobody knows whether it had an effect.
	ErrBroken = errors.New("connection lost before the answer")
)

// A RemoteError is the error that the other side's Handle returned.
type RemoteError struct{ Text string }

func (e *RemoteError) Error() string { return e.Text }

// errRetired says that a connection ended before a call could be queued on it.
var errRetired = errors.New("connection is closed")

// errIdle ends a connection that nobody uses.
var errIdle = errors.New("connection was idle")

func refused(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, sentence(fmt.Sprintf(format, a...)))
}

// unreachable wraps the reason why nothing was sent to addr.
func unreachable(addr string, why error) error {
	return fmt.Errorf("%w: %s: %w", ErrUnreachable, addr, why)
}

func broken(addr string, why error) error {
	return fmt.Errorf("%w: %s: %w", ErrBroken, addr, why)
}

// cause is what ended ctx, and always is ctx.Err() too.
func cause(ctx context.Context) error {
	if c := context.Cause(ctx); c != nil && !errors.Is(c, ctx.Err()) {
		return fmt.Errorf("%w: %w", ctx.Err(), c)
	}
	return ctx.Err()
}

// sentence makes a text from the other side fit for logs and terminals: one line, bounded, no control characters.
func sentence(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, " "))
	for len(s) > maxSentence {
		cut := maxSentence
		for cut > 0 && s[cut]&0xC0 == 0x80 {
			cut--
		}
		s = s[:cut]
	}
	return s
}

// isRemoteAlert says whether the other side ended the TLS handshake.
func isRemoteAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}
