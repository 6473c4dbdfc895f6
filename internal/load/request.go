package load

import (
	"net/url"
	"strconv"
	"strings"
	"time"
)

// keyLength is that of a key.
const keyLength = 32

// keys makes the keys of a run: a part that nobody can guess, the same for all, and a number. A key that is a number can
// be made again, and a million of them need no memory.
type keys struct{ prefix string }

// keyDigits is the length of the number in a key, of 4 bits each.
const keyDigits = 15

func newKeys() keys { return keys{randomText(keyLength - keyDigits)} }

// appendKey appends the n-th key. Only the lower 60 bits of n count.
func (k keys) appendKey(b []byte, n uint64) []byte {
	const digits = "0123456789abcdef"
	b = append(b, k.prefix...)
	for shift := 4 * (keyDigits - 1); shift >= 0; shift -= 4 {
		b = append(b, digits[n>>shift&15])
	}
	return b
}

// dialect writes the requests of one interface to one endpoint. It can be used by many goroutines at once.
type dialect struct {
	seed    bool
	name    string // what all names begin with, as a path has it
	query   string // and as a query has it
	before  string // the path of an acquire up to the name
	headers string // behind the first line
	keys    keys
	tail    string // of the body of an acquire, behind the wait
	ttl     string
}

// newDialect prepares what is the same in all requests of a run. name is what the names begin with.
func newDialect(p *Plan, e *Endpoint, name string, k keys) *dialect {
	d := &dialect{seed: p.Interface == Seed, name: url.PathEscape(name), query: url.QueryEscape(name), keys: k, ttl: decimal(p.TTL)}
	d.before, d.headers = e.path+"/v1/locks/", " HTTP/1.1\r\nHost: "+e.host+"\r\n"
	if d.seed {
		d.before = e.path + "/getLock/"
	}
	if p.APIKey != "" {
		d.headers += "Authorization: Bearer " + p.APIKey + "\r\n"
	}
	if p.Owner > 0 {
		d.tail += `,"owner":"` + strings.Repeat("o", p.Owner) + `"`
	}
	if p.Metadata > 0 {
		d.tail += `,"metadata":"` + strings.Repeat("m", p.Metadata) + `"`
	}
	d.tail += "}"
	return d
}

// decimal is a duration in seconds.
func decimal(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }

func (d *dialect) appendName(b []byte, n uint64) []byte {
	return strconv.AppendUint(append(b, d.name...), n, 10)
}

// acquire appends the acquire of the n-th name by a key. wait is in seconds; empty: only try.
func (d *dialect) acquire(b []byte, name, key uint64, wait string) []byte {
	if d.seed {
		return d.seedAcquire(b, name, wait)
	}
	b = append(append(b, "POST "...), d.before...)
	b = append(d.appendName(b, name), d.headers...)
	size := len(`{"key":"","ttl":`) + keyLength + len(d.ttl) + len(d.tail)
	if wait != "" {
		size += len(`,"wait":`) + len(wait)
	}
	b = appendLength(b, size)
	b = append(d.keys.appendKey(append(b, `{"key":"`...), key), `","ttl":`...)
	b = append(b, d.ttl...)
	if wait != "" {
		b = append(append(b, `,"wait":`...), wait...)
	}
	return append(b, d.tail...)
}

func (d *dialect) seedAcquire(b []byte, name uint64, wait string) []byte {
	b = append(append(b, "GET "...), d.before...)
	b = append(d.appendName(b, name), '/')
	b = append(b, d.ttl...)
	if wait != "" {
		b = append(append(b, "?timeout="...), wait...)
	}
	return append(append(b, d.headers...), "\r\n"...)
}

// renew appends the renewal of what the key holds.
func (d *dialect) renew(b []byte, name, key uint64) []byte {
	b = append(append(b, "POST "...), d.before...)
	b = append(append(d.appendName(b, name), "/renew"...), d.headers...)
	b = appendLength(b, len(`{"key":""}`)+keyLength)
	return append(d.keys.appendKey(append(b, `{"key":"`...), key), `"}`...)
}

// release appends the release of what the key holds, or waits for. given is the key in text, for the seed interface, where
// the server makes it.
func (d *dialect) release(b []byte, name, key uint64, given []byte) []byte {
	if d.seed {
		b = append(append(b, "GET "...), strings.TrimSuffix(d.before, "getLock/")...)
		b = append(d.appendName(append(b, "releaseLock/"...), name), '/')
		return append(append(append(b, given...), d.headers...), "\r\n"...)
	}
	b = append(append(b, "DELETE "...), d.before...)
	b = append(append(d.appendName(b, name), d.headers...), "Lock-Key: "...)
	return append(d.keys.appendKey(b, key), "\r\n\r\n"...)
}

// list appends the request that tells how long the queue of the first lock is whose name begins like those of the run.
func (d *dialect) list(b []byte) []byte {
	b = append(append(b, "GET "...), strings.TrimSuffix(d.before, "/")...)
	b = append(append(b, "?limit=1&prefix="...), d.query...)
	return append(append(b, d.headers...), "\r\n"...)
}

// appendLength ends the header of a request with a body.
func appendLength(b []byte, n int) []byte {
	b = append(b, "Content-Type: application/json\r\nContent-Length: "...)
	return append(strconv.AppendInt(b, int64(n), 10), "\r\n\r\n"...)
}

// granted tells whether the answer to an acquire is a grant, and if not, why. For the seed interface it returns the key.
func (d *dialect) granted(a *Answer) (key []byte, code string) {
	switch {
	case a.Status != 200:
		return nil, a.code()
	case d.seed && len(a.Body) != keyLength:
		return nil, "held"
	case d.seed:
		return a.Body, ""
	}
	return nil, ""
}

// done tells whether the answer to a release or a renewal says that it was done, and if not, why.
func (d *dialect) done(a *Answer) (code string) {
	switch {
	case a.Status != 200:
		return a.code()
	case d.seed && string(a.Body) != "released":
		return "not_held"
	}
	return ""
}
