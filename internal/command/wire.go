package command

import (
	"fmt"

	"google.golang.org/protobuf/proto"
)

// PeerVersion is the newest version of the protocol between nodes that this server speaks.
const PeerVersion = 1

// DecodeRequest reads a request of another node. Requests of a newer protocol are refused.
func DecodeRequest(data []byte) (*PeerRequest, error) {
	var r PeerRequest
	if err := proto.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotUnderstood, err)
	}
	if r.GetVersion() < 1 || r.GetVersion() > PeerVersion {
		return nil, fmt.Errorf("%w: a request of peer protocol %d, this server speaks up to %d", ErrNotUnderstood, r.GetVersion(), PeerVersion)
	}
	if f := r.GetForward(); f != nil {
		if len(f.GetCommands()) > MaxCommandsPerEntry {
			return nil, fmt.Errorf("%w: %d commands at once", ErrNotUnderstood, len(f.GetCommands()))
		}
		for _, c := range f.GetCommands() {
			if err := checkKnown(c); err != nil {
				return nil, fmt.Errorf("%w: a command %w", ErrNotUnderstood, err)
			}
		}
	}
	return &r, nil
}
