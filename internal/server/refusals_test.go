package server

import (
	"errors"
	"fmt"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// refusals are the ways in which a backend says no that is no fault of the client's, and what clients are told.
var refusals = []struct {
	set    func(*spy)
	status int
	code   Code
}{
	{failing(node.ErrStopping), 503, CodeUnavailable},
	{failing(node.ErrUnavailable), 503, CodeUnavailable},
	{failing(node.ErrUnknown), 503, CodeUnknown},
	{failing(node.ErrOverloaded), 429, CodeOverloaded},
	{failing(node.ErrDiskFull), 507, CodeDiskFull},
	{failing(errors.New("a disk said something private")), 500, CodeInternal},
	{answering(locktable.TooManyLocks), 429, CodeTooManyLocks},
	{answering(locktable.TooManyWaiters), 429, CodeTooManyWaiters},
	{answering(locktable.TooManySessions), 429, CodeTooManySessions},
	{answering(locktable.TooManyKeys), 429, CodeTooManyKeys},
	{answering(locktable.TooManyHolders), 429, CodeTooManyHolders},
	{answering(locktable.TooMuchText), 429, CodeTooMuchText},
}

func failing(err error) func(*spy) {
	return func(s *spy) { s.failWith(fmt.Errorf("while proposing: %w", err)) }
}

func answering(code locktable.Code) func(*spy) {
	return func(s *spy) { s.answerWith(code) }
}

var errUnknownForTest = fmt.Errorf("the log is slow: %w", node.ErrUnknown)
