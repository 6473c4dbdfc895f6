package node

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"sort"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

var (
	simulateSeed    = flag.Uint64("simulate.seed", 0, "seed of the simulation (0: several)")
	simulateMinutes = flag.Int("simulate.minutes", 10, "virtual minutes of each simulation")
)

// Clients use a cluster of three while nodes are cut off and leadership moves, in virtual time. Judged is what the clients
// saw: S2 (windows of two holds of a lock do not overlap), S3 (tokens grow in the order of grants), L2 (all is well soon
// after the last fault) and S14 (equal states at the end).
func TestSimulation(t *testing.T) {
	seeds := []uint64{1, 2, 3, 4}
	if *simulateSeed != 0 {
		seeds = []uint64{*simulateSeed}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { simulate(t, seed, time.Duration(*simulateMinutes)*time.Minute) })
			if t.Failed() {
				t.Logf("again: go test ./internal/node -run TestSimulation -simulate.seed=%d", seed)
			}
		})
	}
}

// hold is what a client knows of a hold it had.
type hold struct {
	lock      string
	token     uint64
	sent, ack time.Time
	until     time.Time // the end of its belief: released, or sent + what the answer said, less 1 %
}

type simulation struct {
	*trio
	t    *testing.T
	end  time.Time
	mu   sync.Mutex // guards all below
	rand *rand.Rand

	holds           []hold
	faults, unknown int
}

func simulate(t *testing.T, seed uint64, length time.Duration) {
	s := &simulation{trio: openTrio(t), t: t, end: time.Now().Add(length), rand: rand.New(rand.NewPCG(seed, 7))}
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() { s.client(i) })
	}
	wg.Go(s.nemesis)
	wg.Wait()
	s.settle()
	s.judge()
}

func (s *simulation) n(most int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rand.IntN(most)
}

func (s *simulation) anyNode() *Node { return s.nodes[fmt.Sprint("n", 1+s.n(3))] }

// nemesis cuts nodes off and hands leadership on.
func (s *simulation) nemesis() {
	for time.Now().Before(s.end) {
		time.Sleep(time.Duration(500+s.n(4000)) * time.Millisecond) // virtual
		s.faults++
		switch addr := fmt.Sprint("addr", 1+s.n(3)); s.n(3) {
		case 0, 1:
			s.isolate(addr, true)
			time.Sleep(time.Duration(100+s.n(6000)) * time.Millisecond) // virtual
			s.isolate(addr, false)
		case 2:
			_ = s.anyNode().Transfer("")
		}
	}
}

// client takes locks, works, and gives them back, over any node.
func (s *simulation) client(id int) {
	for i := 0; time.Now().Before(s.end); i++ {
		a := acquireCmd(fmt.Sprint("lock", s.n(2)), fmt.Sprintf("c%dx%dx", id, i), time.Duration(s.n(3))*time.Second)
		a.Ttl = int64(3 * time.Second)
		h := hold{lock: a.GetName(), sent: time.Now()}
		o, err := s.anyNode().Acquire(s.t.Context(), a)
		h.ack = time.Now()
		if err != nil || o.Code != locktable.Granted {
			s.mu.Lock()
			if err != nil {
				s.unknown++
			}
			s.mu.Unlock()
			time.Sleep(50 * time.Millisecond) // virtual
			continue
		}
		h.token = o.Token
		h.until = h.sent.Add(o.Deadline.Sub(o.Now) * 99 / 100)
		time.Sleep(time.Duration(s.n(4000)) * time.Millisecond) // virtual; sometimes longer than the hold lasts
		if now := time.Now(); now.Before(h.until) {
			h.until = now
		}
		_, _ = s.anyNode().Propose(s.t.Context(), command.FromRelease(&command.Release{Name: a.GetName(), Key: a.GetKey()}))
		s.mu.Lock()
		s.holds = append(s.holds, h)
		s.mu.Unlock()
	}
}

// settle waits until all nodes agree after the last fault.
func (s *simulation) settle() {
	start := time.Now()
	for i, n := range s.nodes {
		for {
			a := acquireCmd("last-"+i, "last"+i, 0)
			if o, err := n.Acquire(s.t.Context(), a); err == nil && o.Code == locktable.Granted {
				break
			}
			if time.Since(start) > 10*time.Second {
				s.t.Fatalf("%s does not work 10 s after the last fault", i)
			}
			time.Sleep(100 * time.Millisecond) // virtual
		}
	}
	_, leader := s.leader()
	index := leader.fsm.applied.Load()
	hashes := map[[32]byte]bool{}
	for _, n := range s.nodes {
		if err := n.fsm.awaitApplied(s.t.Context(), index); err != nil {
			s.t.Fatal(err)
		}
	}
	synctest.Wait()
	for _, n := range s.nodes {
		n.fsm.view(func(t *locktable.Table) { hashes[t.Hash()] = true })
	}
	if len(hashes) != 1 {
		s.t.Errorf("S14: the nodes have %d different states", len(hashes))
	}
}

func (s *simulation) judge() {
	byLock := map[string][]hold{}
	for _, h := range s.holds {
		byLock[h.lock] = append(byLock[h.lock], h)
	}
	for lock, hs := range byLock {
		sort.Slice(hs, func(i, j int) bool { return hs[i].token < hs[j].token })
		for i := 1; i < len(hs); i++ {
			a, b := hs[i-1], hs[i]
			if a.token == b.token {
				s.t.Errorf("S3: token %d of %s was granted twice", a.token, lock)
			}
			if b.ack.Before(a.until) {
				s.t.Errorf("S2: %s is held with token %d until %v and with %d from %v on", lock, a.token, a.until, b.token, b.ack)
			}
			if b.ack.Before(a.sent) {
				s.t.Errorf("S3: token %d of %s was acknowledged before %d was asked for", b.token, lock, a.token)
			}
		}
	}
	s.t.Logf("%d holds, %d faults, %d requests without an outcome", len(s.holds), s.faults, s.unknown)
	if len(s.holds) < 50 || s.faults < 20 {
		s.t.Error("too little happened")
	}
}
