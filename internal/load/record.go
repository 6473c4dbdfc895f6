package load

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// What a histogram can tell apart: from a tenth of a microsecond to an hour, to one part in a thousand.
const (
	finest    = 100 // ns
	longest   = int64(time.Hour)
	digits    = 3
	maxShards = 8 // a histogram is some 200 KiB; sharing one costs nothing that can be measured
)

// recorder counts what happens during a phase. Workers record all the time; what does not fall between begin and end is
// only counted as outside. A worker uses the shard of its own number.
type recorder struct {
	series  []string
	shards  []shard
	served  []int64 // operations of each worker; guarded by the mutex of its shard
	outside atomic.Int64
}

type shard struct {
	mu     sync.Mutex // guards what follows
	counts bool
	ops    int64
	times  []*hdrhistogram.Histogram
	errors map[string]int64
	_      [64]byte // one shard for each line of the processor's cache
}

// newRecorder makes one for so many workers; a worker with a number beyond that is not compared with the others. The first
// series, if there is any, is that of the operations.
func newRecorder(workers int, series ...string) *recorder {
	r := &recorder{series: series, shards: make([]shard, min(workers, maxShards)), served: make([]int64, workers)}
	for i := range r.shards {
		s := &r.shards[i]
		s.errors = map[string]int64{}
		for range series {
			s.times = append(s.times, newHistogram())
		}
	}
	return r
}

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(finest, longest, digits) }

// begin and end are the bounds of what counts.
func (r *recorder) begin() { r.count(true) }
func (r *recorder) end()   { r.count(false) }

func (r *recorder) count(on bool) {
	for i := range r.shards {
		r.shards[i].mu.Lock()
		r.shards[i].counts = on
		r.shards[i].mu.Unlock()
	}
}

// operation records one that succeeded, with what it took in each of the series; a negative time is left out.
func (r *recorder) operation(worker int, took ...time.Duration) {
	s := &r.shards[worker%len(r.shards)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.counts {
		r.outside.Add(1)
		return
	}
	s.ops++
	if worker < len(r.served) {
		r.served[worker]++
	}
	for i, d := range took {
		if d >= 0 {
			_ = s.times[i].RecordValue(min(max(int64(d), finest), longest)) // cannot fail within the bounds
		}
	}
}

// failed records an operation that came to nothing.
func (r *recorder) failed(worker int, code string) {
	s := &r.shards[worker%len(r.shards)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts {
		s.errors[code]++
	}
}

// sum is what was counted so far.
func (r *recorder) sum() (ops int64, times []*hdrhistogram.Histogram, errors map[string]int64) {
	errors = map[string]int64{}
	for range r.series {
		times = append(times, newHistogram())
	}
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		ops += s.ops
		for k, h := range s.times {
			times[k].Merge(h)
		}
		for code, n := range s.errors {
			errors[code] += n
		}
		s.mu.Unlock()
	}
	return ops, times, errors
}

// total is how much has happened so far, counted or not.
func (r *recorder) total() int64 {
	n := r.outside.Load()
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		n += s.ops
		for _, failures := range s.errors {
			n += failures
		}
		s.mu.Unlock()
	}
	return n
}

// extremes are the operations of the workers that were served most and least.
func (r *recorder) extremes() (most, least int64) {
	for i := range r.served {
		s := &r.shards[i%len(r.shards)]
		s.mu.Lock()
		n := r.served[i]
		s.mu.Unlock()
		if most = max(most, n); i == 0 || n < least {
			least = n
		}
	}
	return most, least
}
