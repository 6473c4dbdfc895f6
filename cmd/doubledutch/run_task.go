package main

import (
	"context"
	"errors"
	"time"
)

var (
	errBusy = errors.New("others do the task")
	errDone = errors.New("the task is done")
)

// runTask is the claim on a task.
type runTask struct {
	key     string
	token   uint64
	attempt int
}

func (t *runTask) Remaining() time.Duration { return 0 }
func (t *runTask) Lost() <-chan struct{}    { return nil }
func (t *runTask) Err() error               { return nil }

func (r *runJob) acquireTask(context.Context) (*runTask, error) { return nil, errBusy }

// settle reports how the command has ended.
func (r *runJob) settle(int) error { return nil }

// fail reports that the attempt has failed.
func (r *runJob) fail(string) {}
