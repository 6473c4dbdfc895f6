package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// raftLogger returns a logger for hashicorp/raft whose lines go to l. Until live is set, its warnings are details too:
// the only voter of a cluster begins every life by missing a leader.
func raftLogger(l *slog.Logger, live *atomic.Bool) hclog.Logger {
	h := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Debug, Output: io.Discard})
	h.RegisterSink(slogSink{to: l.With("component", "raft"), live: live, complaints: &complaints{said: map[string]time.Time{}}})
	return h
}

// complaintGap is how often raft's complaints about a peer are told. Raft makes each of them several times a second, for as long as the
// peer is gone.
const complaintGap = 10 * time.Second

// aboutPeers are those complaints. The first thing that they tell is the peer.
var aboutPeers = map[string]bool{
	"failed to heartbeat to": true, "failed to appendEntries to": true, "failed to contact": true, "failed to make requestVote RPC": true,
}

// complaints remembers what was told.
type complaints struct {
	mu   sync.Mutex           // guards said
	said map[string]time.Time // when it was told last
}

// again tells whether the same was told about the same peer a short time ago.
func (c *complaints) again(msg string, args []any) bool {
	if !aboutPeers[msg] || len(args) < 2 {
		return false
	}
	key := fmt.Sprint(msg, " ", args[1])
	c.mu.Lock()
	defer c.mu.Unlock()
	if last, ok := c.said[key]; ok && time.Since(last) < complaintGap {
		return true
	}
	c.said[key] = time.Now()
	return false
}

// slogSink passes hclog's lines on to slog. Raft tells its everyday steps at info level; to an operator of this server
// they are details, so they are passed one level lower.
type slogSink struct {
	to         *slog.Logger
	live       *atomic.Bool
	complaints *complaints
}

func (s slogSink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	switch level {
	case hclog.Warn:
		if s.live.Load() {
			to = slog.LevelWarn
		}
	case hclog.Error:
		to = slog.LevelError
	case hclog.NoLevel, hclog.Trace, hclog.Debug, hclog.Info, hclog.Off:
	}
	for i, a := range args {
		if err, ok := a.(error); ok && errors.Is(err, net.ErrClosed) {
			to = slog.LevelDebug // this node is closing its connections
		}
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			args[i] = fmt.Sprintf(f[0].(string), f[1:]...)
		}
	}
	if to > slog.LevelDebug && s.complaints.again(msg, args) {
		to = slog.LevelDebug
	}
	if !s.to.Enabled(context.Background(), to) {
		return
	}
	s.to.Log(context.Background(), to, strings.TrimSpace(msg), args...)
}
