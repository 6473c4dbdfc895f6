package locktable

import "container/heap"

// timed is something with a deadline: a claim, a shared session, or a lock that is blocked by a delay.
type timed interface {
	// due is the deadline as it is now.
	due() Time
	// order breaks ties between equal deadlines.
	order() uint64
	// slot is where the heap keeps the position of the thing, plus one; 0 means that it is not armed.
	slot() *int32
}

// timers is the one heap of deadlines. A deadline that moves to later (every renewal does) is left where it is and found
// out when it comes to the top, so that renewing costs nothing here.
type timers struct{ items timerHeap }

type timer struct {
	at   Time
	what timed
}

// arm makes sure that x fires at x.due().
func (t *timers) arm(x timed) {
	if i := int(*x.slot()); i > 0 {
		if due, top := x.due(), t.items.at(i-1); due < top.at {
			top.at = due
			heap.Fix(&t.items, i-1)
		}
		return
	}
	i := t.items.push(timer{at: x.due(), what: x})
	*x.slot() = int32(i + 1)
	heap.Fix(&t.items, i)
}

// disarm takes x out.
func (t *timers) disarm(x timed) {
	if i := *x.slot(); i > 0 {
		t.remove(int(i - 1))
	}
}

// remove takes out the item at i. (heap.Push and heap.Pop would allocate for each timer.)
func (t *timers) remove(i int) {
	last := t.items.n - 1
	t.items.Swap(i, last)
	*t.items.at(last).what.slot() = 0
	t.items.cut()
	if i < last {
		heap.Fix(&t.items, i)
	}
}

// next returns the earliest deadline.
func (t *timers) next() (Time, bool) {
	for t.items.n > 0 {
		top := t.items.at(0)
		due := top.what.due()
		if due == top.at {
			return due, true
		}
		top.at = due
		heap.Fix(&t.items, 0)
	}
	return 0, false
}

// pop takes out the thing with the earliest (deadline, order) if it is due by now.
func (t *timers) pop(now Time) timed {
	at, ok := t.next()
	if !ok || at > now {
		return nil
	}
	what := t.items.at(0).what
	t.remove(0)
	return what
}

const timerChunkLen = 1024

// timerHeap implements heap.Interface; only heap.Fix is used on it. It lives in chunks: a slice would be copied when it grows,
// 24 MB with a million deadlines, while the table stands still.
type timerHeap struct {
	chunks []*[timerChunkLen]timer
	n      int
}

func (h *timerHeap) at(i int) *timer { return &h.chunks[i/timerChunkLen][i%timerChunkLen] }

// push adds x at the end and returns its position.
func (h *timerHeap) push(x timer) int {
	if h.n == len(h.chunks)*timerChunkLen {
		h.chunks = append(h.chunks, new([timerChunkLen]timer))
	}
	*h.at(h.n) = x
	h.n++
	return h.n - 1
}

// cut takes the last one out. A chunk that is empty is kept for the next ones, a second one is not.
func (h *timerHeap) cut() {
	h.n--
	*h.at(h.n) = timer{}
	if last := len(h.chunks) - 1; h.n+timerChunkLen <= last*timerChunkLen {
		h.chunks[last] = nil
		h.chunks = h.chunks[:last]
	}
}

func (h *timerHeap) Len() int { return h.n }

func (h *timerHeap) Less(i, j int) bool {
	a, b := h.at(i), h.at(j)
	if a.at != b.at {
		return a.at < b.at
	}
	return a.what.order() < b.what.order()
}

func (h *timerHeap) Swap(i, j int) {
	a, b := h.at(i), h.at(j)
	*a, *b = *b, *a
	*a.what.slot() = int32(i + 1)
	*b.what.slot() = int32(j + 1)
}

func (*timerHeap) Push(any) { panic("locktable: timers are pushed by arm") }

func (*timerHeap) Pop() any { panic("locktable: timers are popped by remove") }
