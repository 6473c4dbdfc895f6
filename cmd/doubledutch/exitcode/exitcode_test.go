package exitcode

import (
	"errors"
	"fmt"
	"testing"
)

func TestOf(t *testing.T) {
	cause := errors.New("cause")
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, OK},
		{With(Held, nil), OK},
		{cause, Failure},
		{With(Held, cause), Held},
		{fmt.Errorf("around: %w", With(StorageHung, cause)), StorageHung},
	} {
		if got := Of(tt.err); got != tt.want {
			t.Errorf("the code of %v is %d, want %d", tt.err, got, tt.want)
		}
	}
	if !errors.Is(With(Held, cause), cause) {
		t.Error("the cause is lost")
	}
}

func TestMeaningsAreInOrder(t *testing.T) {
	last := -1
	for _, m := range Meanings {
		if m.Code <= last || m.Code > 255 || m.Text == "" {
			t.Errorf("code %d after %d means %q", m.Code, last, m.Text)
		}
		last = m.Code
	}
}
