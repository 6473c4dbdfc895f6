package main

import (
	"context"
	"os/exec"
)

// System is something that gives locks, with the settings under which it is measured.
type System struct {
	Name     string `json:"name"`
	Ours     bool   `json:"ours"`
	Kept     string `json:"kept"` // whether a lock that was granted is on disk
	Settings string `json:"settings"`

	programs []string // what must be there to start it
	packages []string // which packages of Debian have them
	start    func(ctx context.Context, h *host) (*service, error)
}

// service is a system that runs.
type service struct {
	version string
	at      string // ours only: the base URL of the first node
	// dial makes the id-th client, with connections of its own.
	dial func(ctx context.Context, id int) (client, error)
}

// client is one user of a system. It belongs to one goroutine.
type client interface {
	// lock returns when it has the lock, however long that takes.
	lock(ctx context.Context, name string) (held, error)
	close()
}

// held is a lock that a client has.
type held interface {
	unlock(ctx context.Context) error
}

// renewable is a lock that expires on its own, and not with the session or the connection of its client.
type renewable interface {
	renew(ctx context.Context) error
}

// systems are those that are compared, in the order of the tables.
func systems() []*System {
	return []*System{
		doubledutchVolatile(), doubledutchDurable(), doubledutchClientOne(), doubledutchThree(),
		redisVolatile(), redisDurable(), etcdOne(), etcdThree(), postgres(), mariadb(), zookeeper(),
	}
}

// missing are the programs that this system lacks on this machine.
func (s *System) missing() (programs []string) {
	for _, p := range s.programs {
		if _, err := find(p); err != nil {
			programs = append(programs, p)
		}
	}
	return programs
}

// find looks for a program where distributions put it.
func find(program string) (string, error) {
	path, err := exec.LookPath(program)
	for _, dir := range []string{"/usr/sbin", "/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/16/bin", "/usr/lib/postgresql/17/bin", "/usr/lib/postgresql/18/bin"} {
		if err == nil {
			break
		}
		path, err = exec.LookPath(dir + "/" + program)
	}
	return path, err
}
