package simulation

import (
	"bytes"
	"errors"
	"io"

	"github.com/hashicorp/raft"
)

// InstallSnapshot carries a snapshot. When the road breaks meanwhile the receiver gets only its beginning.
func (e *end) InstallSnapshot(_ raft.ServerID, to raft.ServerAddress, args *raft.InstallSnapshotRequest,
	resp *raft.InstallSnapshotResponse, data io.Reader,
) error {
	if err := e.life.thaw(nil); err != nil {
		return err
	}
	content, err := io.ReadAll(data)
	if err != nil {
		return err
	}
	f := e.net.fate(e.addr, string(to))
	if f.refused {
		return errors.New("connection refused")
	}
	a := *args
	got := make(chan raft.RPCResponse, 2)
	if !f.lost {
		if torn := e.net.fate(e.addr, string(to)); torn.lost {
			content = content[:len(content)/2]
		}
		e.net.count.add("snapshots sent", 1)
		go e.deliver(f, f.delay, raft.RPC{Command: &a, Reader: bytes.NewReader(content)}, got)
	}
	r, err := e.await(got, f.to.life, rpcPatience)
	if err != nil {
		return err
	}
	*resp = *r.(*raft.InstallSnapshotResponse)
	if resp.Success {
		e.net.mu.Lock()
		e.net.installed[installation{e.life, f.to.life, args.LastLogIndex}]++
		e.net.mu.Unlock()
	}
	return nil
}

// A node that has a snapshot can be given what comes after it.
const mostInstallations = 10

// checkInstallations finds nodes that were given the same snapshot again and again (L2).
func (w *world) checkInstallations() {
	w.net.mu.Lock()
	defer w.net.mu.Unlock()
	for i, times := range w.net.installed {
		if times > mostInstallations {
			w.violated("L2", "%s has sent the snapshot of entry %d to %s %d times", i.from.machine.name, i.index, i.to.machine.name, times)
		}
	}
}
