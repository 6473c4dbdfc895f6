package supervise

import "time"

// printer passes lines to a function that may be slow, or hang, as a terminal does that was stopped. Who says something never
// waits; what does not fit is lost.
type printer struct {
	lines chan line
	done  chan struct{}
}

// line is a text, or somebody who wants to know that what was said before is printed.
type line struct {
	text    string
	printed chan struct{}
}

// printWithin is how long the last lines may take when everything else is over.
const printWithin = time.Second

func newPrinter(say func(string)) *printer {
	p := &printer{make(chan line, 16), make(chan struct{})}
	go func() {
		defer close(p.done)
		for l := range p.lines {
			if l.printed != nil {
				close(l.printed)
				continue
			}
			undisturbed(func() { say(l.text) })
		}
	}()
	return p
}

func (p *printer) say(text string) {
	select {
	case p.lines <- line{text: text}:
	default:
	}
}

// flush returns when what was said before is printed, or printWithin has passed.
func (p *printer) flush() {
	printed := make(chan struct{})
	select {
	case p.lines <- line{printed: printed}:
	default:
		return
	}
	select {
	case <-printed:
	case <-time.After(printWithin):
	}
}

// close returns when everything is printed, or printWithin has passed. Nothing may be said after it.
func (p *printer) close() {
	close(p.lines)
	select {
	case <-p.done:
	case <-time.After(printWithin):
	}
}
