package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// configFile is the name of a JSON file with values for flags. A key is the name of a flag without its dashes, either at
// the top, where it counts for every command that has the flag, or in an object named after one command, which goes
// before the top.
type configFile string

// BeforeResolve reads the file and lets it answer for the flags that the command line and the environment leave open.
func (c configFile) BeforeResolve(ctx *kong.Context, trace *kong.Path) error {
	path, ok := ctx.FlagValue(trace.Flag).(configFile)
	if !ok || path == "" {
		return nil
	}
	file, err := readConfig(string(path), ctx.Model)
	if err != nil {
		return err
	}
	ctx.AddResolver(file)
	return nil
}

// config is a configuration file whose keys are known to be flags.
type config struct {
	path string
	// Values by flag name: for all commands, and for one command.
	all  map[string]jsontext.Value
	verb map[string]map[string]jsontext.Value
}

// readConfig reads the file and refuses keys that no command of app knows and values of the wrong type, whichever
// command is about to run.
func readConfig(path string, app *kong.Application) (*config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	c := &config{path: path, verb: map[string]map[string]jsontext.Value{}}
	if err := json.Unmarshal(text, &c.all); err != nil {
		return nil, fmt.Errorf("%s is not a JSON object of flag values: %w", path, jsonCause(err))
	}
	for _, verb := range app.Children {
		if len(verb.Children) > 0 {
			continue // "cluster" is the flag of serve, not the group of commands
		}
		if err := c.takeVerb(verb.Name); err != nil {
			return nil, err
		}
	}
	return c, c.check(app)
}

// takeVerb moves the object of one command, if there is one, out of the values for all.
func (c *config) takeVerb(name string) error {
	raw, ok := c.all[name]
	if !ok {
		return nil
	}
	var values map[string]jsontext.Value
	if err := json.Unmarshal(raw, &values); err != nil {
		return fmt.Errorf("%q in %s names a command and must be an object of its flags: %w", name, c.path, jsonCause(err))
	}
	delete(c.all, name)
	c.verb[name] = values
	return nil
}

// check holds every key and value against the flags of app.
func (c *config) check(app *kong.Application) error {
	var everywhere []*kong.Flag
	for _, verb := range app.Children {
		if err := c.checkValues(verb.Name+".", c.verb[verb.Name], verb.Flags); err != nil {
			return err
		}
		everywhere = append(everywhere, verb.Flags...)
	}
	return c.checkValues("", c.all, everywhere)
}

// checkValues tries each value on every one of flags that bears its name.
func (c *config) checkValues(prefix string, values map[string]jsontext.Value, flags []*kong.Flag) error {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		known := false
		for _, f := range flags {
			if f.Name != key {
				continue
			}
			known = true
			if err := tryValue(f, values[key]); err != nil {
				return fmt.Errorf("%q in %s: %w", prefix+key, c.path, err)
			}
		}
		if !known {
			return fmt.Errorf("%q in %s is not the name of a flag", prefix+key, c.path)
		}
	}
	return nil
}

// Validate has nothing left to do: the file was checked as it was read.
func (*config) Validate(*kong.Application) error { return nil }

// Resolve answers with the file's value for flag, or nil if it has none or the environment has one.
func (c *config) Resolve(_ *kong.Context, parent *kong.Path, flag *kong.Flag) (any, error) {
	if parent.Command == nil || envIsSet(flag) {
		return nil, nil
	}
	raw, ok := c.verb[parent.Command.Name][flag.Name]
	if !ok {
		raw, ok = c.all[flag.Name]
	}
	if !ok {
		return nil, nil
	}
	return flagText(flag, raw)
}

// tryValue reads raw as flag would, without setting it.
func tryValue(flag *kong.Flag, raw jsontext.Value) error {
	text, err := flagText(flag, raw)
	if err != nil {
		return err
	}
	scan := kong.Scan().PushTyped(text, kong.FlagValueToken)
	if err := flag.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: scan}, reflect.New(flag.Target.Type()).Elem()); err != nil {
		return err
	}
	if allowed := flag.EnumSlice(); flag.Enum != "" && !slices.Contains(allowed, text) {
		return fmt.Errorf("must be one of %s", strings.Join(allowed, ", "))
	}
	return nil
}

// flagText is raw as it would be written on the command line. The JSON type must suit the flag: true or false for a
// switch, a number or a string for numbers, durations and sizes, a list of strings for a flag that can be repeated.
func flagText(flag *kong.Flag, raw jsontext.Value) (string, error) {
	var list []string
	var text string
	switch kind := raw.Kind(); {
	case flag.IsBool():
		if kind != jsontext.KindTrue && kind != jsontext.KindFalse {
			return "", errors.New("must be true or false")
		}
		return string(raw), nil
	case flag.IsSlice():
		if err := json.Unmarshal(raw, &list); err != nil || kind != jsontext.KindBeginArray {
			return "", errors.New("must be a list of strings")
		}
		return kong.JoinEscaped(list, flag.Tag.Sep), nil
	case kind == jsontext.KindNumber && isNumeric(flag):
		return string(raw), nil
	case kind == jsontext.KindString:
		err := json.Unmarshal(raw, &text)
		return text, err
	case isNumeric(flag):
		return "", errors.New("must be a number or a string")
	default:
		return "", errors.New("must be a string")
	}
}

// jsonCause is the part of a decoding error that a person can use.
func jsonCause(err error) error {
	var syntax *jsontext.SyntacticError
	if errors.As(err, &syntax) {
		return syntax
	}
	return errors.New(strings.TrimPrefix(err.Error(), "json: "))
}

// isNumeric tells whether a JSON number is a sensible way to write flag's value.
func isNumeric(flag *kong.Flag) bool {
	return flag.Target.Kind() != reflect.String && flag.Target.Kind() != reflect.Slice
}
