package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
)

// Reader reads the state out of a backup. It belongs to one goroutine.
type Reader struct {
	in     *bufio.Reader
	sum    hash.Hash
	n      uint64 // bytes read
	header Header
	left   int   // of the present piece
	err    error // the last one
}

// NewReader reads the header. The error wraps ErrDamaged or ErrNewer, or is what r said.
func NewReader(r io.Reader) (*Reader, error) {
	b := &Reader{in: bufio.NewReaderSize(r, 64<<10), sum: sha256.New()}
	if err := b.readVersion(); err != nil {
		return nil, err
	}
	line, err := b.line(maxHeader)
	if err != nil {
		return nil, err
	}
	b.header, err = parseHeader(line)
	return b, err
}

// Header returns the header. It is not to be believed before Read has returned io.EOF.
func (r *Reader) Header() Header { return r.header }

// Size returns how many bytes of the file were read.
func (r *Reader) Size() uint64 { return r.n }

// readVersion reads the first line.
func (r *Reader) readVersion() error {
	line, err := r.line(len(firstLine) + len(strconv.Itoa(1<<16)))
	if err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	text, ok := strings.CutPrefix(string(line), firstLine)
	n, numErr := strconv.ParseUint(text, 10, 16)
	switch {
	case !ok || err != nil || numErr != nil || strconv.FormatUint(n, 10) != text || n == 0:
		return damaged("the file is not a backup of DoubleDutch")
	case n > Version:
		return fmt.Errorf("%w (form %d, this one knows up to %d); use the newer version", ErrNewer, n, Version)
	}
	return nil
}

// line reads a line of at most most bytes, without its end.
func (r *Reader) line(most int) ([]byte, error) {
	var line []byte
	for {
		c, err := r.in.ReadByte()
		switch {
		case err != nil:
			return line, cut(err)
		case c == '\n':
			r.count(append(line, c))
			return line, nil
		case len(line) == most:
			return line, damaged("a line is too long")
		}
		line = append(line, c)
	}
}

// count notes that p was read.
func (r *Reader) count(p []byte) {
	r.sum.Write(p)
	r.n += uint64(len(p))
}

// cut is what it means that err came before the end.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return damaged("it is cut short")
	}
	return fmt.Errorf("read the backup: %w", err)
}

// Read reads the state. It returns io.EOF when all of it was read, the checksum is right and nothing follows.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err == nil && r.left == 0 {
		r.err = r.next()
	}
	if r.err != nil || len(p) == 0 {
		return 0, r.err
	}
	n, err := r.in.Read(p[:min(len(p), r.left)])
	r.count(p[:n])
	r.left -= n
	if err != nil {
		r.err = cut(err)
	}
	return n, r.err
}

// next finds the next piece, or the end.
func (r *Reader) next() error {
	var length [4]byte
	if err := r.full(length[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxPiece {
		return damaged("a piece of %d bytes", n)
	}
	if n == 0 {
		return r.end()
	}
	r.left = int(n)
	return nil
}

// full reads exactly len(p) bytes.
func (r *Reader) full(p []byte) error {
	if _, err := io.ReadFull(r.in, p); err != nil {
		return cut(err)
	}
	r.count(p)
	return nil
}

// end reads the length and the checksum. The result is io.EOF if they are right.
func (r *Reader) end() error {
	at := r.n
	var length [8]byte
	if err := r.full(length[:]); err != nil {
		return err
	}
	want := r.sum.Sum(nil)
	var sum [sumLen]byte
	if err := r.full(sum[:]); err != nil {
		return err
	}
	if binary.BigEndian.Uint64(length[:]) != at || !bytes.Equal(want, sum[:]) {
		return damaged("it does not pass its checksum")
	}
	if _, err := r.in.ReadByte(); err == nil {
		return damaged("something follows its end")
	} else if !errors.Is(err, io.EOF) {
		return cut(err)
	}
	return io.EOF
}

// Verify reads a whole backup and returns its header and size.
func Verify(r io.Reader) (Header, uint64, error) {
	b, err := NewReader(r)
	if err != nil {
		return Header{}, 0, err
	}
	if _, err := io.Copy(io.Discard, b); err != nil {
		return Header{}, 0, err
	}
	return b.header, b.n, nil
}
