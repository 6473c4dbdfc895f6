package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

// keyFlags are the ways in which a verb that is not all about a key is given one.
type keyFlags struct {
	KeyFile string `name:"key-file" placeholder:"FILE" help:"File with the key that acquire printed; - for standard input."`
	Key     secret `name:"key" env:"DOUBLEDUTCH_KEY" placeholder:"KEY" help:"The key itself, if there is no file. Other users of this machine can see command lines: prefer the variable (${env}) or the file."`
}

// settleKeys settles which of two ways to give a key counts when both were used, and the same for the API key. A verb with
// keyFlags calls it from an AfterApply of its own, since the parser calls one for each verb only.
func settleKeys(ctx *kong.Context) error {
	if err := newSources(ctx).settle("key", "key-file"); err != nil {
		return err
	}
	return newSources(ctx).settle("api-key", "api-key-file")
}

// load returns the key, or "" if none is given. Standard input is read from in.
func (k *keyFlags) load(in io.Reader) (string, error) {
	key := k.Key.reveal()
	if k.KeyFile != "" {
		var err error
		if key, err = readKeyFile(k.KeyFile, in); err != nil {
			return "", exitcode.With(exitcode.Usage, fmt.Errorf("--key-file: %w", err))
		}
	}
	if strings.ContainsFunc(key, notInHeader) {
		return "", exitcode.With(exitcode.Usage, errors.New("that is not a key: keys are 32 letters and digits"))
	}
	return key, nil
}

// readKeyFile returns the first line of a file.
func readKeyFile(name string, in io.Reader) (string, error) {
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	line, err := bufio.NewReader(io.LimitReader(in, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if line = strings.TrimSpace(line); line == "" {
		return "", fmt.Errorf("%s holds no key", name)
	}
	return line, nil
}
