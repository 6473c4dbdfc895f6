package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	dd "github.com/doubledutch-lock/doubledutch/client"
	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
	"github.com/doubledutch-lock/doubledutch/internal/supervise"
)

// work runs the command, and gives everything back when nothing of it is left.
func (r *runJob) work(signals *supervise.Signals) error {
	keys, err := r.writeKeys()
	if err != nil {
		return exitcode.With(exitcode.RunFailed, err)
	}
	defer func() { _ = os.RemoveAll(keys) }()
	lease := newRunLease(r.leases())
	defer lease.stop()
	if r.lock != nil {
		go r.passOn(r.lock.Asked(), lease.end)
	}
	out, err := supervise.Run(&supervise.Options{
		Argv: r.console.command, Env: r.environment(keys), Lease: lease,
		Grace: r.cmd.grace(), Reserve: r.cmd.reserve(), Poll: min(r.cmd.TTL.duration()/50, time.Second),
		Litter: keys, OnLost: supervise.OnLost(r.cmd.OnLost), Leftover: supervise.Leftover(r.cmd.Leftover), Say: r.say,
	}, signals)
	if err != nil {
		return exitcode.With(exitcode.RunFailed, err)
	}
	if why := lease.why(); why != nil {
		r.say(plain(why))
	}
	if out.Lost {
		return exitcode.With(exitcode.RunLost, errors.New("the lock could not be kept, and the command was ended"))
	}
	r.verbose(fmt.Sprintf("the command ended with %d", out.Code))
	if out.Code == 0 {
		return nil
	}
	return exitcode.With(out.Code, errSaid)
}

// passOn tells whoever looks that somebody wants the lock, until end.
func (r *runJob) passOn(asked <-chan dd.Ask, end <-chan struct{}) {
	for {
		select {
		case a := <-asked:
			r.say(fmt.Sprintf("%s asks to make way within %s: %s", somebody(a.Owner), ago(a.DueIn.Seconds()), a.Reason))
		case <-end:
			return
		}
	}
}

// leases are what the command must not outlive.
func (r *runJob) leases() []runLeaser {
	var all []runLeaser
	if r.lock != nil {
		all = append(all, r.lock)
	}
	if r.claim != nil {
		all = append(all, r.claim)
	}
	return all
}

// Files in the directory for secrets.
const (
	keyFile     = "key"
	taskKeyFile = "task-key"
)

// writeKeys writes the keys to files that only this user can read, in a directory of their own.
func (r *runJob) writeKeys() (dir string, err error) {
	dir, err = os.MkdirTemp(os.Getenv("XDG_RUNTIME_DIR"), "doubledutch-run-") // "" is the directory for temporary files
	if err != nil {
		if dir, err = os.MkdirTemp("", "doubledutch-run-"); err != nil {
			return "", err
		}
	}
	if r.lock != nil {
		err = os.WriteFile(filepath.Join(dir, keyFile), []byte(r.lock.Key()+"\n"), 0o600)
	}
	if r.claim != nil {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, taskKeyFile), []byte(r.claim.Key()+"\n"), 0o600))
	}
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}

// environment is that of the command: this program's own, and what it has to know.
func (r *runJob) environment(keys string) []string {
	servers, _ := r.cmd.servers() // open has checked them
	set := map[string]string{
		"DOUBLEDUTCH_SERVER": servers[0],
		// Not set; but what an outer run has set is not true here.
		"DOUBLEDUTCH_KEY": "", "DOUBLEDUTCH_KEY_FILE": "", "DOUBLEDUTCH_LOCK": "", "DOUBLEDUTCH_TOKEN": "", "DOUBLEDUTCH_TASK": "",
		"DOUBLEDUTCH_TASK_KEY_FILE": "", "DOUBLEDUTCH_TASK_TOKEN": "", "DOUBLEDUTCH_TASK_ATTEMPT": "", supervise.ExpiresVariable: "", supervise.LostVariable: "",
	}
	if r.lock != nil {
		set["DOUBLEDUTCH_LOCK"] = r.cmd.Name
		set["DOUBLEDUTCH_KEY_FILE"] = filepath.Join(keys, keyFile)
		set["DOUBLEDUTCH_TOKEN"] = strconv.FormatUint(r.lock.Token(), 10)
	}
	if r.claim != nil {
		set["DOUBLEDUTCH_TASK"] = r.cmd.task()
		set["DOUBLEDUTCH_TASK_KEY_FILE"] = filepath.Join(keys, taskKeyFile)
		set["DOUBLEDUTCH_TASK_TOKEN"] = strconv.FormatUint(r.claim.Token(), 10)
		set["DOUBLEDUTCH_TASK_ATTEMPT"] = strconv.Itoa(r.claim.Attempt)
	}
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if _, ours := set[name]; !ours {
			env = append(env, v)
		}
	}
	for name, value := range set {
		if value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// runLeaser is a lease of the client.
type runLeaser interface {
	Remaining() time.Duration
	Lost() <-chan struct{}
	Err() error
}

// runLease is all leases together: what the command must not outlive is the first that ends.
type runLease struct {
	all  []runLeaser
	lost chan struct{}
	end  chan struct{}
}

func newRunLease(all []runLeaser) *runLease {
	l := &runLease{all: all, lost: make(chan struct{}), end: make(chan struct{})}
	one := make(chan struct{}, len(all))
	for _, part := range all {
		go func() {
			select {
			case <-part.Lost():
				one <- struct{}{}
			case <-l.end:
			}
		}()
	}
	go func() {
		select {
		case <-one:
			close(l.lost)
		case <-l.end:
		}
	}()
	return l
}

// Remaining is part of supervise.Lease.
func (l *runLease) Remaining() time.Duration {
	least := l.all[0].Remaining()
	for _, part := range l.all[1:] {
		least = min(least, part.Remaining())
	}
	return least
}

// Lost is part of supervise.Lease.
func (l *runLease) Lost() <-chan struct{} { return l.lost }

// why says why it is lost; nil if it is not.
func (l *runLease) why() error {
	for _, part := range l.all {
		if err := part.Err(); err != nil && errors.Is(err, dd.ErrLost) {
			return err
		}
	}
	return nil
}

func (l *runLease) stop() { close(l.end) }
