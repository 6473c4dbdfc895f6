package node

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

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

// Who removes a dead leader does not have to wait for the election first.
func TestRemoveBearsAnElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		dead, _ := c.leader()
		c.isolate(c.members[dead], true)
		for name, n := range c.nodes {
			if name == dead {
				continue
			}
			if err := n.Remove(dead); err != nil {
				t.Errorf("through %s: %v", name, err)
			}
			break
		}
	})
}

// A refusal comes at once, with or without a leader's delay.
func TestRefusedChangeIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		_, leader := c.leader()
		for _, n := range c.nodes {
			start := time.Now()
			refused := (*RefusedError)(nil)
			if err := n.Remove("n9"); !errors.As(err, &refused) {
				t.Errorf("error %v", err)
			}
			if took := time.Since(start); took >= leaderPatience {
				t.Errorf("a refusal after %v; leads: %v", took, n == leader)
			}
		}
	})
}
