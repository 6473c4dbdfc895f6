package load

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Answer is what came back.
type Answer struct {
	Status int
	Body   []byte // good until the next answer on the connection
	last   bool   // the server closes the connection behind it
}

// maxBody bounds an answer, in bytes.
const maxBody = 16 << 20

var errMalformed = errors.New("that is no HTTP answer that this client understands")

// read reads one answer.
func (c *Conn) read() (Answer, error) {
	for {
		a, err := c.readOne()
		if err != nil || a.Status >= 200 { // else it announces another one
			return a, err
		}
	}
}

func (c *Conn) readOne() (Answer, error) {
	var a Answer
	var err error
	line, err := c.line()
	if err != nil {
		return a, err
	}
	if a.Status, err = statusOf(line); err != nil {
		return a, err
	}
	length, chunked := -1, false
	for {
		if line, err = c.line(); err != nil {
			return a, err
		}
		if len(line) == 0 {
			break
		}
		switch line[0] | 0x20 { // most lines are none of those that matter
		case 'c':
			if v, ok := header(line, "content-length"); ok {
				if length, err = strconv.Atoi(string(v)); err != nil || length < 0 || length > maxBody {
					return a, fmt.Errorf("%w: a length of %q", errMalformed, v)
				}
			} else if v, ok := header(line, "connection"); ok {
				a.last = bytes.EqualFold(v, []byte("close"))
			}
		case 't':
			if v, ok := header(line, "transfer-encoding"); ok {
				chunked = bytes.EqualFold(v, []byte("chunked"))
			}
		}
	}
	a.Body, err = c.readBody(a.Status, length, chunked)
	return a, err
}

// line returns the next line without its end. It is good until the next read.
func (c *Conn) line() ([]byte, error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		if len(line) == readBuffer {
			return nil, fmt.Errorf("%w: a line is too long", errMalformed)
		}
		return nil, err
	}
	line = line[:len(line)-1]
	return bytes.TrimSuffix(line, []byte("\r")), nil
}

// statusOf reads a status line, such as "HTTP/1.1 200 OK".
func statusOf(line []byte) (int, error) {
	if len(line) < 12 || string(line[:7]) != "HTTP/1." || line[8] != ' ' {
		return 0, fmt.Errorf("%w: it begins with %q", errMalformed, line)
	}
	status := 0
	for _, d := range line[9:12] {
		if d < '0' || d > '9' {
			return 0, fmt.Errorf("%w: it begins with %q", errMalformed, line)
		}
		status = 10*status + int(d-'0')
	}
	return status, nil
}

// header returns the value if the line is that header. name is in small letters.
func header(line []byte, name string) ([]byte, bool) {
	if len(line) <= len(name) || line[len(name)] != ':' || !bytes.EqualFold(line[:len(name)], []byte(name)) {
		return nil, false
	}
	return bytes.TrimSpace(line[len(name)+1:]), true
}

func (c *Conn) readBody(status, length int, chunked bool) ([]byte, error) {
	c.body = c.body[:0]
	switch {
	case status < 200 || status == 204 || status == 304:
		return nil, nil
	case chunked:
		err := c.readChunks()
		return c.body, err
	case length < 0:
		return nil, fmt.Errorf("%w: it does not tell its length", errMalformed)
	}
	err := c.append(length)
	return c.body, err
}

// append reads n more bytes of the body.
func (c *Conn) append(n int) error {
	at := len(c.body)
	if cap(c.body) < at+n {
		grown := make([]byte, at, 2*(at+n))
		copy(grown, c.body)
		c.body = grown
	}
	c.body = c.body[:at+n]
	_, err := io.ReadFull(c.in, c.body[at:])
	return err
}

// readChunks reads a body in pieces, as proxies send it, each with its length before it.
func (c *Conn) readChunks() error {
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		size, _, _ := bytes.Cut(line, []byte(";"))
		n, err := strconv.ParseUint(string(bytes.TrimSpace(size)), 16, 32)
		if err != nil || int(n)+len(c.body) > maxBody {
			return fmt.Errorf("%w: a chunk of %q bytes", errMalformed, size)
		}
		if n == 0 {
			break
		}
		if err := c.append(int(n)); err != nil {
			return err
		}
		if line, err = c.line(); err != nil || len(line) != 0 {
			return errors.Join(err, errMalformed)
		}
	}
	for {
		if line, err := c.line(); err != nil || len(line) == 0 { // what may follow the chunks
			return err
		}
	}
}

// code is under which name an answer that is no success is counted: that of its problem document, or its status.
func (a *Answer) code() string {
	const member = `"code":"`
	if at := bytes.Index(a.Body, []byte(member)); at >= 0 {
		rest := a.Body[at+len(member):]
		if end := bytes.IndexByte(rest, '"'); end > 0 {
			return string(rest[:end])
		}
	}
	return "http_" + strconv.Itoa(a.Status)
}
