package client_test

import (
	"testing"

	"github.com/doubledutch-lock/doubledutch/client"
)

// What compiles and means nothing is refused, and nothing is sent.
func TestMisuseIsRefused(t *testing.T) {
	t.Parallel()
	c, ctx := open(t), within(t)
	other := open(t)
	s := must[*client.Session](t)(other.Open(ctx))
	defer func() { _ = s.End(ctx) }()
	for what, o := range map[string]client.LockOption{
		"no slots": client.Slots(0), "less": client.Slots(-3), "no slots for one": client.SlotsFor(0, "a"),
		"of another lock": client.SharedFor("b"), "slots of another lock": client.SlotsFor(2, "a", "b"),
		"the session of another client": client.InSession(s),
	} {
		_, err := c.LockAll(ctx, []string{"a"}, o)
		wantErr(t, err, client.ErrRefused)
		if err == nil {
			t.Error(what)
		}
	}
}
