package ddtest_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubledutch-lock/doubledutch/client/ddtest"
)

// victim is a test that is ended by the kit.
type victim struct {
	testing.TB
	said string
}

type fatal struct{}

func (v *victim) Fatal(args ...any) {
	v.said = fmt.Sprint(args...)
	panic(fatal{})
}

func (v *victim) Fatalf(format string, args ...any) { v.Fatal(fmt.Sprintf(format, args...)) }

// saying returns what f ends the test of v with.
func saying(v *victim, f func(t testing.TB)) (said string) {
	defer func() {
		if p := recover(); p != nil && p != any(fatal{}) {
			panic(p)
		}
		said = v.said
	}()
	f(v)
	return ""
}

func TestMisuseIsTold(t *testing.T) {
	for want, f := range map[string]func(t testing.TB){
		"has 1 to 9 nodes":       func(t testing.TB) { ddtest.Start(t, ddtest.Nodes(0)) },
		"lock a: nobody has it":  func(t testing.TB) { ddtest.Start(t).Expire("a") },
		"task a: nobody has it":  func(t testing.TB) { ddtest.Start(t).ExpireTask("a") },
		"time goes only forward": func(t testing.TB) { ddtest.Start(t).Advance(-time.Second) },
		"to fail over takes":     func(t testing.TB) { ddtest.Start(t).FailOver() },
		"to hand over takes":     func(t testing.TB) { ddtest.Start(t).HandOver() },
		"take a: it is not free": func(t testing.TB) { s := ddtest.Start(t); s.Take("a"); s.Take("a") },
		"with ddtest.InMemory()": func(t testing.TB) {
			synctest.Test(t.(*victim).TB.(*testing.T), func(*testing.T) { _ = saying(t.(*victim), func(testing.TB) { ddtest.Start(t) }) })
		},
	} {
		if said := saying(&victim{TB: t}, f); !strings.Contains(said, want) {
			t.Errorf("it said %q, want %q", said, want)
		}
	}
}

// lines is a test whose log is kept.
type lines struct {
	testing.TB
	mu   sync.Mutex // guards said
	said []string
}

func (l *lines) Logf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = append(l.said, fmt.Sprintf(format, args...))
}

func TestVerbose(t *testing.T) {
	l := &lines{TB: t}
	t.Run("server", func(t *testing.T) {
		l.TB = t
		s := ddtest.Start(l, ddtest.Verbose())
		want(t, acquire(t, s, "a", `{}`), 200, "")
	})
	if all := strings.Join(l.said, "\n"); !strings.Contains(all, "msg=request") || strings.HasSuffix(all, "\n") {
		t.Errorf("it logged %q", all)
	}
}
