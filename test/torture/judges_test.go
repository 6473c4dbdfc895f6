//go:build linux

package torture

import (
	"strings"
	"testing"
	"time"
)

// A judge that never convicts is none: each gets a history with one lie in it, and the same without.

// ms is a time on the clock of a made-up run.
func ms(n int64) int64 { return n * int64(time.Millisecond) }

func asked(key string, from, to int64, token uint64) *op {
	return &op{
		Client: key, Node: "n1", Kind: acquire, Lock: "db", Key: key, Owner: "o" + key, TTL: 2, Call: ms(from), Return: ms(to),
		Status: 200, Token: token, Expires: 2,
	}
}

func held(key string, from, to int64, by string, token uint64) *op {
	o := asked(key, from, to, 0)
	o.Status, o.Code, o.Expires, o.HolderOwner, o.HolderToken = 409, "held", 0, "o"+by, token
	return o
}

func lost(o *op) *op {
	o.Status, o.Token, o.Expires, o.Err = 0, 0, 0, "lost"
	return o
}

func released(key string, from, to int64) *op {
	return &op{Client: key, Node: "n1", Kind: release, Lock: "db", Key: key, Owner: "o" + key, Call: ms(from), Return: ms(to), Status: 200}
}

func refusedTo(o *op, status int, code string) *op {
	o.Status, o.Code, o.Token, o.Expires = status, code, 0, 0
	return o
}

func renewed(key string, from, to int64) *op {
	o := released(key, from, to)
	o.Kind, o.Expires = renew, 2
	return o
}

func looked(from, to int64, by string, token uint64, queue ...string) *op {
	return &op{
		Client: "look", Node: "n1", Kind: read, Lock: "db", Call: ms(from), Return: ms(to), Status: 200,
		Held: token != 0, HolderOwner: by, HolderToken: token, Queue: queue,
	}
}

func waited(o *op, seconds float64) *op {
	o.Wait, o.Waited = seconds, 0.1
	return o
}

var trials = []struct {
	property string
	ops      []*op
	wrong    bool
}{
	{"S2", []*op{asked("a", 0, 1, 1), asked("b", 1000, 1900, 2)}, true},
	{"S2", []*op{asked("a", 0, 1, 1), asked("b", 1000, 2001, 2)}, false},
	{"S2", []*op{asked("a", 0, 1, 1), released("a", 500, 2500), asked("b", 400, 600, 2)}, false},
	{"S2", []*op{asked("a", 0, 1, 1), renewed("a", 1500, 1510), asked("b", 2000, 3000, 2)}, true},
	{"S5", []*op{asked("a", 0, 1, 1), refusedTo(renewed("a", 1000, 1999), 404, "not_held")}, true},
	{"S5", []*op{asked("a", 0, 1, 1), refusedTo(renewed("a", 1000, 2001), 404, "not_held")}, false},
	{"S3", []*op{asked("a", 0, 1, 7), released("a", 2, 3), asked("b", 4, 5, 6)}, true},
	{"S3", []*op{asked("a", 0, 1, 7), released("a", 2, 3), asked("b", 4, 5, 7)}, true},
	{"S3", []*op{asked("a", 0, 1, 7), released("a", 2, 3), asked("b", 4, 5, 8)}, false},
	{"S10", []*op{asked("a", 0, 1, 1), asked("a", 2, 3, 2)}, true},
	{"S10", []*op{asked("a", 0, 1, 1), asked("a", 2, 3, 1)}, false},
	{"S10", []*op{asked("a", 0, 1, 1), released("a", 2, 3), asked("a", 4, 5, 1)}, true},
	{"S8", []*op{waited(asked("a", 0, 50, 3), 5), looked(10, 11, "ox", 1, "oa"), waited(asked("b", 20, 40, 2), 5)}, true},
	{"S8", []*op{waited(asked("a", 0, 50, 2), 5), looked(10, 11, "ox", 1, "oa"), waited(asked("b", 20, 60, 3), 5)}, false},
	{"S13", []*op{asked("a", 0, 1, 1), looked(2, 3, "", 0)}, true},
	{"S13", []*op{asked("a", 0, 1, 1), looked(2, 3, "oa", 1)}, false},
	{"S6", []*op{{Kind: acquire, Lock: "db", Key: "a", TTL: 2, Status: 200, Token: 1, Expires: 2.5}}, true},
	{"S15", []*op{refusedTo(asked("a", 0, 1, 0), 500, "internal")}, true},
	{"S15", []*op{refusedTo(asked("a", 0, 1, 0), 409, "key_in_use")}, true},
	{"S15", []*op{refusedTo(asked("a", 0, 5, 0), 503, "unavailable"), looked(6, 7, "oa", 2)}, true},
	{"S15", []*op{lost(asked("a", 0, 5, 0)), looked(6, 7, "oa", 2)}, false},
	{"L1", []*op{{Kind: acquire, Node: "n1", Return: ms(9000), Err: "context deadline exceeded"}}, true},
	{"L1", []*op{{Kind: acquire, Node: "n1", Return: ms(9000), Err: "EOF"}}, false},

	{"linearizability", []*op{asked("a", 0, 1, 1), held("b", 2, 3, "a", 1), released("a", 4, 5), asked("b", 6, 7, 2)}, false},
	{"linearizability", []*op{asked("a", 0, 1, 1), released("a", 2, 3), held("b", 4, 5, "a", 1)}, true},
	{"linearizability", []*op{asked("a", 0, 1, 1), lost(released("a", 2, 3)), held("b", 4, 5, "a", 1), asked("c", 6, 7, 2)}, false},
	{"linearizability", []*op{lost(asked("a", 0, 1, 1)), held("b", 2, 3, "a", 1), asked("c", 4, 5, 2)}, false}, // taken back
	{"linearizability", []*op{lost(asked("a", 0, 1, 1)), held("b", 2, 3, "a", 2), looked(4, 5, "oa", 1)}, true},
	{"linearizability", []*op{refusedTo(asked("a", 0, 5000, 0), 409, "key_spent"), held("b", 2, 3, "a", 2)}, false},
	{"linearizability", []*op{refusedTo(asked("a", 0, 5, 0), 503, "unavailable"), held("b", 2, 3, "a", 2)}, true}, // not done, and done
	{"linearizability", []*op{asked("a", 0, 1, 1), looked(2000, 2100, "", 0)}, false},                             // expired
	{"linearizability", []*op{asked("a", 0, 1, 1), looked(1000, 1100, "", 0)}, true},                              // too early
	{"linearizability", []*op{asked("a", 0, 1, 1), released("a", 2, 3), looked(4, 5, "", 0)}, false},
	{"linearizability", []*op{asked("a", 0, 1, 1), released("a", 2, 3), looked(4, 5, "oa", 1)}, true},
	{"linearizability", []*op{asked("a", 0, 1, 2), released("a", 2, 3), asked("b", 4, 5, 1)}, true},
	{"linearizability", []*op{asked("a", 0, 1, 1), released("a", 2, 3), renewed("a", 4, 5)}, true},
	{"linearizability", []*op{asked("a", 0, 1, 1), refusedTo(released("a", 2, 3), 404, "not_held")}, true},
}

func TestJudges(t *testing.T) {
	for i, trial := range trials {
		h := &history{ops: trial.ops}
		all := append(judge(h), judgeLinearity(h).wrong...)
		found := false
		for _, w := range all {
			found = found || strings.HasPrefix(w, trial.property+":")
		}
		if found != trial.wrong {
			t.Errorf("trial %d, %s: convicted %v, want %v; %q", i, trial.property, found, trial.wrong, all)
		}
	}
}

// TestJudgesExcuseWhatWasBroken: no answer of a node that was broken is no lie.
func TestJudgesExcuseWhatWasBroken(t *testing.T) {
	yes, no := true, false
	h := &history{
		ops:    []*op{{Kind: acquire, Node: "n1", Return: ms(9000), Err: "context deadline exceeded"}},
		events: []event{{At: ms(8000), Node: "n1", Impairs: &yes}, {At: ms(8500), Node: "n1", Impairs: &no}},
	}
	if wrong := judge(h); len(wrong) > 0 {
		t.Errorf("%q", wrong)
	}
	h.ops[0].Node = "n2"
	if wrong := judge(h); len(wrong) != 1 {
		t.Errorf("%q", wrong)
	}
}

// TestFence: it refuses older tokens, and complains only of holders that were right.
func TestFence(t *testing.T) {
	h := newHistory()
	f := fence{highest: map[string]uint64{}}
	future := h.now() + int64(time.Hour)
	f.write(h, &hold{lock: "db", token: 2, until: future})
	f.write(h, &hold{lock: "db", token: 1})
	if f.taken != 1 || f.late != 1 || len(f.wrong) != 0 {
		t.Errorf("%+v", &f)
	}
	if f.write(h, &hold{lock: "db", token: 1, until: future}); len(f.wrong) != 1 {
		t.Errorf("%+v", &f)
	}
}

// TestTooLittle: a run that saw nothing is no proof.
func TestTooLittle(t *testing.T) {
	a := &arena{tally: map[string]*tally{"kill -9": {tried: 3}}}
	if all := (&seen{}).tooLittle(2, a); len(all) != 10 {
		t.Errorf("%q", all)
	}
}
