package node

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/raft"
)

// A node that is removed just when it is about to be made a voter stays removed.
func TestPromotionDoesNotBringBackTheRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		_, leader := c.leader()
		gone := raft.Server{ID: "n4.0123abcd", Address: "addr-of-n4", Suffrage: raft.Nonvoter}
		if err := leader.raft.AddNonvoter(gone.ID, gone.Address, 0, changeTimeout).Error(); err != nil {
			t.Fatal(err)
		}
		if err := leader.Remove("n4"); err != nil {
			t.Fatal(err)
		}
		if err := leader.addVoter(gone, gone.Address); !errors.Is(err, errChanged) {
			t.Errorf("error %v", err)
		}
		if _, ok := leader.memberNamed("n4"); ok {
			t.Error("it is a member again")
		}
	})
}
