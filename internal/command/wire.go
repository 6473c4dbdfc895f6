package command

import (
	"fmt"

	"google.golang.org/protobuf/proto"
)

// PeerVersion is the newest version of the protocol between nodes that this server speaks. It is raised when a request
// gets another meaning; one of a new kind is refused anyhow by a node that does not know it.
const PeerVersion = 1

// requestVersion is the lowest version of the protocol that a receiver of any request must know. While nodes are upgraded
// one after the other, each must understand the others, so it is not the newest.
const requestVersion = 1

// EncodeRequest returns the bytes of r, with the version that its receiver must know.
func EncodeRequest(r *PeerRequest) ([]byte, error) {
	r.Version = requestVersion
	out, err := proto.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	return out, nil
}

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
