package backup

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"io"
)

// Writer writes a backup. It belongs to one goroutine.
type Writer struct {
	out io.Writer
	sum hash.Hash
	n   uint64
	err error // the first one
}

// NewWriter writes h to w and returns a Writer of the state that follows.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	b := &Writer{out: w, sum: sha256.New()}
	lines, err := h.encode()
	if err != nil {
		return nil, err
	}
	return b, b.put(lines)
}

// put writes p, counted and summed.
func (w *Writer) put(p []byte) error {
	if w.err != nil {
		return w.err
	}
	n, err := w.out.Write(p)
	w.sum.Write(p[:n])
	w.n += uint64(n)
	w.err = err
	return err
}

// Write writes a part of the state.
func (w *Writer) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		piece := p[:min(len(p), maxPiece)]
		if err := w.put(binary.BigEndian.AppendUint32(nil, uint32(len(piece)))); err != nil {
			return n, err
		}
		if err := w.put(piece); err != nil {
			return n, err
		}
		n, p = n+len(piece), p[len(piece):]
	}
	return n, nil
}

// Close writes the end, without which the backup is worth nothing. It does not close what is written to.
func (w *Writer) Close() error {
	if err := w.put(make([]byte, 4)); err != nil {
		return err
	}
	if err := w.put(binary.BigEndian.AppendUint64(nil, w.n)); err != nil {
		return err
	}
	return w.put(w.sum.Sum(nil))
}
