package main

import (
	"strings"
	"testing"
)

func TestSummary(t *testing.T) {
	for _, tt := range []struct {
		name, in, want string
		ok             bool
	}{
		{
			name: "a pass, a skip and a package line",
			in: `{"Action":"output","Package":"p","Test":"TestA","Output":"noise\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:3: needs root\n"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.01s\n"}
{"Action":"pass","Package":"p"}
`,
			want: "ok  \tp\t0.01s\nskipped: p TestB: b_test.go:3: needs root\n1 passed, 0 failed, 1 skipped\n",
			ok:   true,
		},
		{
			name: "a failed test prints what it printed",
			in: `{"Action":"output","Package":"p","Test":"TestA","Output":"wrong\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}
`,
			want: "wrong\n0 passed, 1 failed, 0 skipped\n",
		},
		{
			name: "a package that does not build",
			in: `{"ImportPath":"p","Action":"build-output","Output":"p.go:1: no\n"}
{"ImportPath":"p","Action":"build-fail"}
{"Action":"fail","Package":"p","FailedBuild":"p"}
`,
			want: "p.go:1: no\n0 passed, 1 failed, 0 skipped\n",
		},
		{
			name: "a test that never ended",
			in: `{"Action":"output","Package":"p","Test":"TestA","Output":"panic: x\n"}
{"Action":"fail","Package":"p"}
`,
			want: "panic: x\n0 passed, 1 failed, 0 skipped\n",
		},
		{name: "nothing ran", in: "go: no such thing\n", want: "go: no such thing\n0 passed, 0 failed, 0 skipped\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			s := newSummary(&out)
			if err := s.read(strings.NewReader(tt.in)); err != nil {
				t.Fatal(err)
			}
			if ok := s.finish(); ok != tt.ok || out.String() != tt.want {
				t.Errorf("got %v and\n%s\nwant %v and\n%s", ok, out.String(), tt.ok, tt.want)
			}
		})
	}
}
