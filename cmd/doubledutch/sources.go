package main

import (
	"fmt"
	"os"
	"reflect"

	"github.com/alecthomas/kong"
)

// source says where the value of a flag comes from. A greater one goes before a smaller one.
type source int

const (
	fromDefault source = iota
	fromFile
	fromEnv
	fromCommandLine
)

// sources tells the flags of one parsed command line apart by where their values come from.
type sources struct {
	flags map[string]*kong.Flag
	from  map[string]source
}

// newSources looks at a context whose values have been applied.
func newSources(ctx *kong.Context) *sources {
	s := &sources{flags: map[string]*kong.Flag{}, from: map[string]source{}}
	for _, f := range ctx.Flags() {
		s.flags[f.Name] = f
		if envIsSet(f) {
			s.from[f.Name] = fromEnv
		}
	}
	for _, p := range ctx.Path {
		switch {
		case p.Flag == nil:
		case p.Resolved:
			s.from[p.Flag.Name] = fromFile
		default:
			s.from[p.Flag.Name] = fromCommandLine
		}
	}
	return s
}

// envIsSet tells whether the environment gives f a value.
func envIsSet(f *kong.Flag) bool {
	for _, name := range f.Envs {
		if _, ok := os.LookupEnv(name); ok {
			return true
		}
	}
	return false
}

// settle decides between flags of which only one can count. The one from the stronger source wins and the others lose
// their values; two from the same source contradict each other, unless it is the default.
func (s *sources) settle(names ...string) error {
	winner := ""
	for _, name := range names {
		switch {
		case s.flags[name].Target.IsZero():
		case winner == "":
			winner = name
		case s.from[name] == s.from[winner]:
			return fmt.Errorf("%s and %s contradict each other: give one of them", s.describe(winner), s.describe(name))
		case s.from[name] > s.from[winner]:
			winner = name
		}
	}
	for _, name := range names {
		if name != winner {
			target := s.flags[name].Target
			target.Set(reflect.Zero(target.Type()))
		}
	}
	return nil
}

// describe names a flag in the way in which its value was given.
func (s *sources) describe(name string) string {
	switch s.from[name] {
	case fromEnv:
		return s.flags[name].Envs[0]
	case fromFile:
		return fmt.Sprintf("%q in the configuration file", name)
	default:
		return "--" + name
	}
}
