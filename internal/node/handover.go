package node

import (
	"errors"
	"fmt"
	"time"
)

// How long raft may refuse office to the leader that it has elected. Handing leadership over takes an election timeout.
const officePatience = 5 * time.Second

// ErrHandOver: raft is stuck in handing leadership over.
var ErrHandOver = errors.New("handing leadership over does not end")

// office counts for how long raft has refused office. hashicorp/raft v1.8.0 never ends a hand-over when the goroutine that
// replicates to the chosen node has gone, as it has when leadership is lost meanwhile. Whenever that node leads later, it
// keeps the others from electing anybody else, and takes no command. Only a new process helps.
type office struct {
	term  uint64
	since time.Time
}

// again notes another refusal, and ends the process when there is no hope.
func (o *office) again(n *Node) {
	if term := n.raft.CurrentTerm(); term != o.term {
		o.term, o.since = term, time.Now()
		return
	}
	if took := time.Since(o.since); took > officePatience {
		o.since = time.Now()
		n.config.Fatal(fmt.Errorf("%w after %v; the process must be started again", ErrHandOver, took.Truncate(time.Millisecond)))
	}
}
