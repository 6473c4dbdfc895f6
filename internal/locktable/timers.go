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
	if i := *x.slot(); i > 0 {
		if due := x.due(); due < t.items[i-1].at {
			t.items[i-1].at = due
			heap.Fix(&t.items, int(i-1))
		}
		return
	}
	t.items = append(t.items, timer{at: x.due(), what: x})
	*x.slot() = int32(len(t.items))
	heap.Fix(&t.items, len(t.items)-1)
}

// disarm takes x out.
func (t *timers) disarm(x timed) {
	if i := *x.slot(); i > 0 {
		t.remove(int(i - 1))
	}
}

// remove takes out the item at i. (heap.Push and heap.Pop would allocate for each timer.)
func (t *timers) remove(i int) {
	last := len(t.items) - 1
	t.items.Swap(i, last)
	*t.items[last].what.slot() = 0
	t.items[last] = timer{}
	t.items = t.items[:last]
	if i < last {
		heap.Fix(&t.items, i)
	}
}

// next returns the earliest deadline.
func (t *timers) next() (Time, bool) {
	for len(t.items) > 0 {
		top := &t.items[0]
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
	what := t.items[0].what
	t.remove(0)
	return what
}

// timerHeap implements heap.Interface; only heap.Fix is used on it.
type timerHeap []timer

func (h timerHeap) Len() int { return len(h) }

func (h timerHeap) Less(i, j int) bool {
	if h[i].at != h[j].at {
		return h[i].at < h[j].at
	}
	return h[i].what.order() < h[j].what.order()
}

func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	*h[i].what.slot() = int32(i + 1)
	*h[j].what.slot() = int32(j + 1)
}

func (*timerHeap) Push(any) { panic("locktable: timers are pushed by arm") }

func (*timerHeap) Pop() any { panic("locktable: timers are popped by remove") }
