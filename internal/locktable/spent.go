package locktable

import "time"

const spentChunkLen = 1024

// spentKeys remembers keys that have ended, for a while and up to a number. It is a queue in chunks that are only ever
// appended to, so that a snapshot can read its part of them while the queue goes on.
type spentKeys struct {
	index  map[Key]struct{}
	chunks []*spentChunk
	head   int // position of the oldest key in the first chunk
	n      int
	broken brokenKeys
}

type spentChunk [spentChunkLen]spentKey

type spentKey struct {
	key Key
	at  Time
}

func (s *spentKeys) has(k Key) bool {
	_, ok := s.index[k]
	return ok
}

func (s *spentKeys) add(k Key, at Time) {
	if s.index == nil {
		s.index = make(map[Key]struct{})
	}
	s.index[k] = struct{}{}
	end := s.head + s.n
	if end == len(s.chunks)*spentChunkLen {
		s.chunks = append(s.chunks, new(spentChunk))
	}
	s.chunks[end/spentChunkLen][end%spentChunkLen] = spentKey{key: k, at: at}
	s.n++
}

// prune forgets keys that are older than retention, and the oldest ones beyond most.
func (s *spentKeys) prune(now Time, retention time.Duration, most int) {
	for s.n > 0 && (s.n > most || s.chunks[0][s.head].at.Add(retention) <= now) {
		delete(s.index, s.chunks[0][s.head].key)
		s.broken.forget(s.chunks[0][s.head].key)
		s.n--
		if s.head++; s.head == spentChunkLen {
			s.chunks[0] = nil
			s.chunks, s.head = s.chunks[1:], 0
		}
	}
	if s.n == 0 {
		*s = spentKeys{}
	}
}

// clone returns a view of the present content that later calls do not change. Its index is absent.
func (s *spentKeys) clone() spentKeys {
	c := *s
	c.index, c.broken.index = nil, nil
	c.chunks = append([]*spentChunk(nil), s.chunks...)
	return c
}

// slice appends up to most keys, from position i on, to out.
func (s *spentKeys) slice(i, most int) []spentKey {
	var out []spentKey
	for ; i < s.n && len(out) < most; i++ {
		p := s.head + i
		out = append(out, s.chunks[p/spentChunkLen][p%spentChunkLen])
	}
	return out
}
