package server

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"

	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// backupPiece is how much of a backup is sent at a time, in bytes. Each piece has deliverTimeout.
const backupPiece = 64 << 10

var (
	binaryType = []string{"application/octet-stream"}
	attachment = []string{`attachment; filename="doubledutch.backup"`}
)

// sendBackup answers GET /v1/cluster/backup. What comes after the first piece can only fail by an answer that is cut off; the
// backup itself says where it ends.
func (s *Server) sendBackup(c *call) error {
	if !s.key.set && !fromLoopback(c.r) {
		// The bodies of all other answers tell a key to nobody but its owner; this one has all of them in it.
		return fail(CodeUnauthorized, "A backup holds the keys of all locks; a server without an API key gives it to clients on its own machine only.")
	}
	b, err := s.backend.Backup(c.ctx(), s.config.Version)
	switch {
	case errors.Is(err, node.ErrOverloaded):
		return &Error{Code: CodeOverloaded, Detail: "Another backup is being made here; ask again when it is done.", cause: err}
	case err != nil:
		return backendError(c.ctx(), err)
	}
	defer func() { _ = b.Close() }() // it was only read
	n, err := s.stream(c, b)
	s.log.Info("a backup was asked for", "client", c.r.RemoteAddr, "bytes", n, "complete", err == nil)
	return err
}

// fromLoopback tells whether the client is on this machine.
func fromLoopback(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// stream answers with what b holds. Once a piece is out, an error of any kind is errGone, which cuts the answer off.
func (s *Server) stream(c *call, b io.Reader) (sent int64, err error) {
	h := c.w.Header()
	piece := make([]byte, backupPiece)
	for {
		n, err := io.ReadFull(b, piece)
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if s.stopping.Load() && !last {
			err = node.ErrStopping
		}
		switch {
		case err != nil && !last && sent == 0:
			return 0, backendError(c.ctx(), err)
		case err != nil && !last:
			return sent, errGone
		}
		if sent == 0 {
			h["Content-Type"], h["Content-Disposition"] = binaryType, attachment
			c.status = http.StatusOK
			c.w.WriteHeader(c.status)
		}
		s.deadline(c)
		if _, err := c.w.Write(piece[:n]); err != nil {
			return sent, errGone
		}
		if sent += int64(n); last {
			return sent, nil
		}
	}
}
