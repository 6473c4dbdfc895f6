package peer

import (
	"bufio"
	"io"
	"sync"
	"time"
)

// wire is a call connection in use: frames go out through one goroutine, which gathers them in a buffer and sends it
// when nothing more is there to be sent, and which says each second that this side lives.
type wire struct {
	c     *conn
	in    *bufio.Reader
	pace  *pacedReader
	taken func(*frame) bool // called under mu when a frame is about to be written; false: leave it
	wrote func(*frame)      // called when a frame is written, or never will be; without mu
	beat  func()            // called each second, without mu

	headIn  [frameHead]byte // the reader's
	headOut [frameHead]byte // the writer's

	wake chan struct{} // one token: there is something to write
	done chan struct{} // closed when the wire has failed

	mu    sync.Mutex // guards what follows, and what the owner of the wire says
	queue []frame
	spare []frame
	err   error // why the wire has failed
}

func newWire(c *conn) *wire {
	pace := &pacedReader{c: c}
	return &wire{
		c: c, in: bufio.NewReaderSize(pace, bufferSize), pace: pace,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// send queues a frame. It returns false when the wire has failed.
func (w *wire) send(f frame) bool {
	w.mu.Lock()
	ok := w.sendLocked(f)
	w.mu.Unlock()
	return ok
}

func (w *wire) sendLocked(f frame) bool {
	if w.err != nil {
		return false
	}
	w.queue = append(w.queue, f)
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return true
}

// fail ends the wire. The first reason counts.
func (w *wire) fail(err error) {
	w.mu.Lock()
	first := w.err == nil
	if first {
		w.err = err
		close(w.done)
	}
	w.mu.Unlock()
	if first {
		w.c.abort()
	}
}

// failure is why the wire has failed.
func (w *wire) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// write sends what is queued until the wire fails.
func (w *wire) write() {
	out := bufio.NewWriterSize(pacedWriter{w.c}, bufferSize)
	ticks := time.NewTicker(beatEvery)
	defer ticks.Stop()
	defer w.drop()
	for {
		batch := w.take()
		if len(batch) > 0 {
			if err := w.writeAll(out, batch); err != nil {
				w.fail(err)
				return
			}
			continue
		}
		if err := out.Flush(); err != nil {
			w.fail(err)
			return
		}
		select {
		case <-w.wake:
		case <-ticks.C:
			w.beat()
			w.send(frame{kind: frameBeat})
		case <-w.done:
			return
		}
	}
}

// take gives everything queued to the writer, and keeps the array of the batch before for the next one.
func (w *wire) take() []frame {
	w.mu.Lock()
	defer w.mu.Unlock()
	batch := w.queue
	if w.err != nil {
		return nil // the writer sees done
	}
	w.queue, w.spare = w.spare[:0], batch
	if w.taken == nil {
		return batch
	}
	for i := range batch {
		if f := &batch[i]; !w.taken(f) {
			f.kind = 0
		}
	}
	return batch
}

func (w *wire) writeAll(out *bufio.Writer, batch []frame) error {
	var err error
	for i := range batch {
		f := &batch[i]
		if err == nil && f.kind != 0 {
			err = w.writeFrame(out, f)
		}
		if w.wrote != nil {
			w.wrote(f)
		}
		*f = frame{}
	}
	return err
}

// drop lets go of what will not be written any more.
func (w *wire) drop() {
	w.mu.Lock()
	rest := w.queue
	w.queue = nil
	w.mu.Unlock()
	for i := range rest {
		if w.wrote != nil {
			w.wrote(&rest[i])
		}
	}
}

func (w *wire) writeFrame(out *bufio.Writer, f *frame) error {
	putFrameHead(&w.headOut, f)
	if _, err := out.Write(w.headOut[:]); err != nil {
		return err
	}
	_, err := out.Write(f.payload)
	return err
}

// readHead reads the next frame up to its payload, beats left out. There may be any time between two frames, as long as
// beats come.
func (w *wire) readHead() (f frame, size int, err error) {
	for {
		w.pace.until = time.Time{}
		if _, err = io.ReadFull(w.in, w.headIn[:]); err != nil {
			return f, 0, err
		}
		if f, size, err = parseFrameHead(&w.headIn); err != nil || f.kind != frameBeat {
			return f, size, err
		}
	}
}

// readPayload reads what follows a head. Its memory is the caller's.
func (w *wire) readPayload(size int) ([]byte, error) {
	if size == 0 {
		return nil, nil
	}
	w.pace.until = time.Now().Add(frameTimeout)
	b := make([]byte, size)
	_, err := io.ReadFull(w.in, b)
	return b, err
}

// pacedReader gives each read deathTime to bring something, and all reads of a frame until until.
type pacedReader struct {
	c     *conn
	until time.Time
}

func (r *pacedReader) Read(b []byte) (int, error) {
	deadline := time.Now().Add(deathTime)
	if !r.until.IsZero() && r.until.Before(deadline) {
		deadline = r.until
	}
	if err := r.c.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	return r.c.Read(b)
}

// pacedWriter writes in pieces and gives each of them its own time.
type pacedWriter struct{ c *conn }

func (w pacedWriter) Write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		if err := w.c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return done, err
		}
		n, err := w.c.Write(b[done:min(done+writeChunk, len(b))])
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}
