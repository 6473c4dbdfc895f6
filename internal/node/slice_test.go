package node

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// oneSlice is how long a slice lasts, if nothing else is said.
const oneSlice = 10 * time.Second

// kept is what a client asks for that waits in slices with a key of its own.
func kept(d time.Duration) Slice { return Slice{For: d, Keep: true} }

// holdLong gives the lock db to h for ten minutes.
func holdLong(t *testing.T, n *Node) {
	t.Helper()
	a := acquireCmd("db", "h", 0)
	a.Ttl = int64(10 * time.Minute)
	mustAcquire(t, n, a, locktable.Granted)
}

// slice waits for the lock db with key for one slice of ten seconds, or less.
func slice(t *testing.T, n *Node, key string, wait time.Duration, want locktable.Code) locktable.Outcome {
	t.Helper()
	o, err := n.Acquire(t.Context(), acquireCmd("db", key, wait), kept(oneSlice))
	if err != nil || o.Code != want {
		t.Fatalf("slice of %s: code %d, error %v, want %d", key, o.Code, err, want)
	}
	return o
}

func sliceLater(ctx context.Context, n *Node, a *command.Acquire) <-chan answer {
	got := make(chan answer, 1)
	go func() {
		o, err := n.Acquire(ctx, a, kept(oneSlice))
		got <- answer{o, err}
	}()
	synctest.Wait()
	return got
}

func keptBy(o *locktable.Outcome) time.Duration { return o.Deadline.Sub(o.Now) }

func TestSliceTellsHowThePlaceStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, "")
		holdLong(t, n)
		first := acquireLater(t.Context(), n, "x")
		start := time.Now()
		for i := range 10 {
			o := slice(t, n, "k", -1, locktable.Waiting)
			if took := time.Since(start); took != time.Duration(i+1)*oneSlice {
				t.Errorf("slice %d ended after %v", i, took)
			}
			if o.Position != 2-i/6 || o.Holder == nil || o.Holder.Waiters != 2-i/6 {
				t.Errorf("slice %d: position %d, holder %+v", i, o.Position, o.Holder)
			}
			if late := time.Since(start) - o.Waited; late < 0 || late > time.Second {
				t.Errorf("slice %d: waited %v, which is %v too little", i, o.Waited, late)
			}
			if d := keptBy(&o); d < oneSlice || d > 15*time.Second {
				t.Errorf("slice %d: kept for %v", i, d)
			}
		}
		if a := receive(t, first); a.out.Code != locktable.Held {
			t.Errorf("the other's wait of a minute: code %d, %v", a.out.Code, a.err)
		}
	})
}

// The place stays as long as it was said, for its own client only, and not much longer: there are no ghosts.
func TestPlaceStaysBetweenSlices(t *testing.T) {
	for _, length := range []time.Duration{time.Millisecond, 7 * time.Second, oneSlice, 40 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			n := open(t, "")
			holdLong(t, n)
			o, err := n.Acquire(t.Context(), acquireCmd("db", "k", -1), kept(length))
			if err != nil || o.Code != locktable.Waiting || keptBy(&o) < 7*time.Second {
				t.Fatalf("code %d, kept for %v, error %v", o.Code, keptBy(&o), err)
			}
			time.Sleep(keptBy(&o) - time.Millisecond) // virtual
			if got := waiting(t, n, "db"); got != 1 {
				t.Errorf("slice of %v: %d places before the end of the grace", length, got)
			}
			time.Sleep(2 * time.Second) // virtual
			if got := waiting(t, n, "db"); got != 0 {
				t.Errorf("slice of %v: %d places after the end of the grace", length, got)
			}
		})
	}
}

// A wait that ends before the grace ends the place.
func TestPlaceEndsWithTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, "")
		holdLong(t, n)
		o := slice(t, n, "k", 12*time.Second, locktable.Waiting)
		if d := keptBy(&o); d != 2*time.Second {
			t.Errorf("kept for %v", d)
		}
		time.Sleep(3 * time.Second) // virtual
		slice(t, n, "k", 0, locktable.Held)
		// A wait that ends with its slice, or within it, has run out.
		for _, wait := range []time.Duration{oneSlice, 4 * time.Second} {
			start := time.Now()
			if o := slice(t, n, "k", wait, locktable.Held); o.Waited != wait || time.Since(start) != wait {
				t.Errorf("waited %v, told after %v", o.Waited, time.Since(start))
			}
		}
	})
}

// A grant that comes between two slices is nobody's to take back.
func TestGrantBetweenSlicesIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, "")
		holdLong(t, n)
		slice(t, n, "k", time.Minute, locktable.Waiting)
		later := acquireLater(t.Context(), n, "x")
		mustRelease(t, n, "db", "h")
		time.Sleep(5 * time.Second) // virtual
		o := slice(t, n, "k", 50*time.Second, locktable.Granted)
		if left := o.Deadline.Sub(o.Now); left < 24*time.Second || left > 26*time.Second {
			t.Errorf("%v are left", left)
		}
		unanswered(t, later)
		time.Sleep(20 * time.Second) // virtual
		if again := slice(t, n, "k", 0, locktable.Granted); again.Token != o.Token {
			t.Errorf("token %d, then %d", o.Token, again.Token)
		}
		mustRelease(t, n, "db", "k")
		if a := receive(t, later); a.out.Code != locktable.Granted || a.out.Token != o.Token+1 {
			t.Errorf("code %d, token %d after %d", a.out.Code, a.out.Token, o.Token)
		}
	})
}

// A grant that nobody comes back for does not last for its whole ttl, however its client left; one that was fetched does.
func TestGrantThatNobodyFetches(t *testing.T) {
	for name, leave := range map[string]func(*testing.T, *Node, *command.Acquire){
		"between slices": func(t *testing.T, n *Node, a *command.Acquire) {
			if o, err := n.Acquire(t.Context(), a, kept(oneSlice)); err != nil || o.Code != locktable.Waiting {
				t.Fatalf("code %d, error %v", o.Code, err)
			}
		},
		"in a slice": func(t *testing.T, n *Node, a *command.Acquire) {
			ctx, cancel := context.WithTimeout(t.Context(), oneSlice/2)
			defer cancel()
			if o, err := n.Acquire(ctx, a, kept(oneSlice)); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("code %d, error %v", o.Code, err)
			}
		},
	} {
		for _, fetched := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				n := open(t, "")
				holdLong(t, n)
				a := acquireCmd("db", "k", time.Minute)
				a.Ttl = int64(time.Hour)
				leave(t, n, a)
				mustRelease(t, n, "db", "h")
				later := acquireLater(t.Context(), n, "x")
				if fetched {
					time.Sleep(oneSlice) // virtual
					token := mustAcquire(t, n, &command.Acquire{Name: "db", Key: a.GetKey(), Ttl: a.GetTtl()}, locktable.Granted).Token
					time.Sleep(45 * time.Second) // virtual
					unanswered(t, later)
					if again := mustAcquire(t, n, acquireCmd("db", "k", 0), locktable.Granted); again.Token != token {
						t.Errorf("%s: token %d, then %d", name, token, again.Token)
					}
					return
				}
				start := time.Now()
				took := func() time.Duration { return time.Since(start) }
				if a := receive(t, later); a.err != nil || a.out.Code != locktable.Granted || took() < 15*time.Second || took() > 21*time.Second {
					t.Errorf("%s: code %d, error %v, after %v", name, a.out.Code, a.err, took())
				}
				slice(t, n, "k", 0, locktable.Held) // its key is not spent
			})
		}
	}
}

// Around the moment at which a slice ends, the answer is the grant, or the next one is.
func TestGrantAtTheEndOfASlice(t *testing.T) {
	for _, before := range []time.Duration{time.Nanosecond, 0, -time.Nanosecond} {
		for range 10 {
			synctest.Test(t, func(t *testing.T) {
				n := open(t, "")
				holdLong(t, n)
				got := sliceLater(t.Context(), n, acquireCmd("db", "k", time.Minute))
				time.Sleep(oneSlice - before) // virtual
				mustRelease(t, n, "db", "h")
				a := receive(t, got)
				if a.err != nil || a.out.Code != locktable.Granted && a.out.Code != locktable.Waiting {
					t.Fatalf("code %d, error %v", a.out.Code, a.err)
				}
				if o := slice(t, n, "k", time.Minute, locktable.Granted); a.out.Code == locktable.Granted && a.out.Token != o.Token {
					t.Errorf("token %d, then %d", a.out.Token, o.Token)
				}
			})
		}
	}
}

// Whoever says that it comes back keeps its place when its connection breaks; whoever does not loses it at once.
func TestBrokenConnectionInASlice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, "")
		holdLong(t, n)
		ctx, leave := context.WithCancel(t.Context())
		first := sliceLater(ctx, n, acquireCmd("db", "k", time.Minute))
		later := acquireLater(t.Context(), n, "x")
		time.Sleep(5 * time.Second) // virtual
		leave()
		if a := receive(t, first); !errors.Is(a.err, context.Canceled) {
			t.Fatalf("code %d, error %v", a.out.Code, a.err)
		}
		time.Sleep(5 * time.Second) // virtual
		again := sliceLater(t.Context(), n, acquireCmd("db", "k", time.Minute))
		mustRelease(t, n, "db", "h")
		if a := receive(t, again); a.err != nil || a.out.Code != locktable.Granted {
			t.Errorf("code %d, error %v", a.out.Code, a.err)
		}
		unanswered(t, later)

		ctx, leave = context.WithCancel(t.Context())
		go func() { _, _ = n.Acquire(ctx, acquireCmd("db", "z", time.Minute), Slice{For: oneSlice}) }()
		synctest.Wait()
		leave()
		synctest.Wait()
		if got := waiting(t, n, "db"); got != 1 {
			t.Errorf("%d places", got)
		}
	})
}

// A client that asks again while an earlier request is parked keeps its place, also if the earlier one is the last to come.
func TestLaterSliceHasThePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, "")
		holdLong(t, n)
		older := sliceLater(t.Context(), n, acquireCmd("db", "k", time.Minute))
		newer := sliceLater(t.Context(), n, acquireCmd("db", "k", time.Minute))
		start := time.Now()
		if a := receive(t, older); a.err != nil || a.out.Code != locktable.Waiting || a.out.Position != 1 || time.Since(start) > supersededStay {
			t.Errorf("the older request: code %d, position %d, error %v, after %v", a.out.Code, a.out.Position, a.err, time.Since(start))
		}
		unanswered(t, newer)
		late := acquireCmd("db", "k", time.Minute)
		late.Attachment = n.newAttachment()
		mustPropose(t, n, command.FromAcquire(late), locktable.Waiting)
		mustRelease(t, n, "db", "h")
		if a := receive(t, newer); a.err != nil || a.out.Code != locktable.Waiting {
			t.Errorf("code %d, error %v", a.out.Code, a.err)
		}
		slice(t, n, "k", time.Minute, locktable.Granted)
	})
}

// Also one whose wait would have ended before its slice is answered by then.
func TestSupersededBeforeTheEndOfTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, "")
		holdLong(t, n)
		start := time.Now()
		older := sliceLater(t.Context(), n, acquireCmd("db", "k", 3*time.Second))
		time.Sleep(2900 * time.Millisecond) // virtual
		newer := sliceLater(t.Context(), n, acquireCmd("db", "k", time.Minute))
		if a := receive(t, older); a.err != nil || a.out.Code != locktable.Waiting || time.Since(start) != 3*time.Second {
			t.Errorf("code %d, error %v, after %v", a.out.Code, a.err, time.Since(start))
		}
		unanswered(t, newer)
	})
}

// A place that is given up, or goes with its session, is told as lost.
func TestPlaceLostInASlice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, "")
		holdLong(t, n)
		got := sliceLater(t.Context(), n, acquireCmd("db", "k", time.Minute))
		start := time.Now()
		mustRelease(t, n, "db", "k")
		if a := receive(t, got); a.err != nil || a.out.Code != locktable.Cancelled || time.Since(start) > 0 {
			t.Errorf("code %d, error %v, after %v", a.out.Code, a.err, time.Since(start))
		}
		slice(t, n, "k", time.Minute, locktable.KeySpent)
	})
}

// In a session, a slice may repeat the number of the first, or have one of its own.
func TestNumberedSlices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, "")
		holdLong(t, n)
		id := keyOf("s")
		mustPropose(t, n, command.FromOpenSession(&command.OpenSession{Id: id, Ttl: int64(time.Hour)}), locktable.Opened)
		numbered := func(number uint64, want locktable.Code) locktable.Outcome {
			t.Helper()
			a := acquireCmd("db", "k", time.Minute)
			a.Ttl, a.Session, a.Request = 0, id, number
			o, err := n.Acquire(t.Context(), a, kept(oneSlice))
			if err != nil || o.Code != want {
				t.Fatalf("number %d: code %d, error %v, want %d", number, o.Code, err, want)
			}
			return o
		}
		numbered(1, locktable.Waiting)
		later := acquireLater(t.Context(), n, "x")
		numbered(1, locktable.Waiting)
		numbered(2, locktable.Waiting)
		mustRelease(t, n, "db", "h")
		token := numbered(1, locktable.Granted).Token
		if again := numbered(3, locktable.Granted); again.Token != token {
			t.Errorf("token %d, then %d", token, again.Token)
		}
		unanswered(t, later)
	})
}

// A node that stops sends its clients away, and their places stay.
func TestSliceOnANodeThatStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, "")
		holdLong(t, n)
		got := sliceLater(t.Context(), n, acquireCmd("db", "k", time.Minute))
		n.StopWaiting()
		if a := receive(t, got); !errors.Is(a.err, ErrStopping) {
			t.Errorf("code %d, error %v", a.out.Code, a.err)
		}
		synctest.Wait()
		if got := waiting(t, n, "db"); got != 1 {
			t.Errorf("%d places", got)
		}
	})
}

func TestClaimInSlices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, "")
		claim := func(key string, wait time.Duration, want locktable.Code) locktable.Outcome {
			t.Helper()
			c := claimCmd("t", key, wait)
			c.Ttl = int64(time.Hour)
			o, err := n.ClaimTask(t.Context(), c, kept(oneSlice))
			if err != nil || o.Code != want {
				t.Fatalf("code %d, error %v, want %d", o.Code, err, want)
			}
			return o
		}
		claim("a", 0, locktable.Granted)
		progress := "half"
		for range 2 {
			mustPropose(t, n, command.FromRenewTask(&command.RenewTask{Name: "t", Key: keyOf("a"), Progress: &progress}), locktable.Renewed)
			o := claim("b", time.Minute, locktable.Waiting)
			if o.Task == nil || o.Task.Status != locktable.TaskRunning || o.Task.Progress != progress || o.Position != 1 || keptBy(&o) < oneSlice {
				t.Errorf("task %+v, position %d, kept for %v", o.Task, o.Position, keptBy(&o))
			}
			progress += "!"
		}
		finish(t, n, "t", "a", "result")
		if o := claim("b", time.Minute, locktable.NotClaimable); o.Task.Status != locktable.TaskDone || o.Task.Text != "result" {
			t.Errorf("task %+v", o.Task)
		}
	})
}

// A client goes from node to node, slice by slice, while the leader fails and comes back, and is before one who came later.
func TestSlicesOverACluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		name, old := c.leader()
		f := c.followers()
		holdLong(t, old)
		slice(t, old, "k", -1, locktable.Waiting)
		later := sliceForEver(t, f[0], "x")
		slice(t, f[0], "k", -1, locktable.Waiting)

		// In a slice on the leader that fails: it hears of nothing any more, and says so.
		lost := sliceLater(t.Context(), old, acquireCmd("db", "k", -1))
		time.Sleep(2 * time.Second) // virtual
		c.isolate(c.members[name], true)
		delete(c.nodes, name)
		if a := receive(t, lost); !errors.Is(a.err, ErrUnknown) {
			t.Fatalf("code %d, error %v", a.out.Code, a.err)
		}
		if o := slice(t, f[1], "k", -1, locktable.Waiting); o.Position != 1 || o.Holder.Waiters != 2 {
			t.Errorf("position %d, %+v", o.Position, o.Holder)
		}

		// The old leader comes back; what it knew of the client does no harm.
		c.isolate(c.members[name], false)
		c.nodes[name] = old
		slice(t, f[0], "k", -1, locktable.Waiting)
		if o := slice(t, old, "k", -1, locktable.Waiting); o.Position != 1 || o.Holder.Waiters != 2 {
			t.Errorf("position %d, %+v", o.Position, o.Holder)
		}
		mustRelease(t, f[1], "db", "h")
		time.Sleep(3 * time.Second) // virtual
		granted := slice(t, f[1], "k", -1, locktable.Granted)
		unanswered(t, later)
		time.Sleep(10 * time.Second) // virtual
		if again := slice(t, f[0], "k", -1, locktable.Granted); again.Token != granted.Token {
			t.Errorf("token %d, then %d", granted.Token, again.Token)
		}
		mustRelease(t, old, "db", "k")
		if a := receive(t, later); a.err != nil || a.out.Code != locktable.Granted || a.out.Token != granted.Token+1 {
			t.Errorf("code %d, token %d, error %v", a.out.Code, a.out.Token, a.err)
		}
	})
}

// sliceForEver waits on n with key until it is granted the lock db, slice by slice.
func sliceForEver(t *testing.T, n *Node, key string) <-chan answer {
	got := make(chan answer, 1)
	go func() {
		for {
			o, err := n.Acquire(t.Context(), acquireCmd("db", key, -1), kept(oneSlice))
			if err != nil || o.Code != locktable.Waiting {
				got <- answer{o, err}
				return
			}
		}
	}()
	synctest.Wait()
	return got
}

// When both have come by the time that it is looked, the grant goes before the end of the slice.
func TestGrantGoesBeforeTheEndOfASlice(t *testing.T) {
	n := open(t, "")
	key, _ := locktable.ParseKey(keyOf("k"))
	p := &parked{waiter: newWaiter(key, 1, ""), a: acquireCmd("db", "k", time.Minute), placed: locktable.Outcome{Code: locktable.Waiting}}
	p.tell(locktable.Outcome{Code: locktable.Granted})
	if o := n.endSlice(p); o.Code != locktable.Granted {
		t.Errorf("code %d", o.Code)
	}
}

// A late copy of an earlier request takes the place over, and the node that its client left by then has seen nobody come for the grace. But
// the client has been told since that it has time, and finds its grant.
func TestLateCopyTakesNothingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		left, now := c.followers()[0], c.followers()[1]
		holdLong(t, now)
		a := acquireCmd("db", "k", time.Minute)
		a.Ttl = int64(time.Hour)
		sliceAt := func(n *Node) {
			if o, err := n.Acquire(t.Context(), a, kept(oneSlice)); err != nil || o.Code != locktable.Waiting {
				t.Fatalf("code %d, error %v", o.Code, err)
			}
		}
		sliceAt(left)
		late := proto.Clone(a).(*command.Acquire) // with its attachment, as it was forwarded
		time.Sleep(2 * time.Second)               // virtual
		sliceAt(now)
		if o, err := left.Propose(t.Context(), command.FromAcquire(late)); err != nil || o.Code != locktable.Waiting {
			t.Fatalf("code %d, error %v", o.Code, err)
		}
		mustRelease(t, now, "db", "h")
		later := acquireLater(t.Context(), now, "x")
		time.Sleep(9 * time.Second) // virtual; what was left first has been over for 6 s
		unanswered(t, later)
		mustAcquire(t, now, &command.Acquire{Name: "db", Key: a.GetKey(), Ttl: a.GetTtl()}, locktable.Granted)
		time.Sleep(45 * time.Second) // virtual
		unanswered(t, later)
	})
}
