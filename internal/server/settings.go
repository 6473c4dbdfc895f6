package server

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// The lock table's settings are replicated and may change. The door keeps a copy to answer bad requests without asking
// the table; before it refuses something by an old copy it fetches a new one, and what passes an old copy by mistake is
// refused by the table itself.

// Copies younger than this are believed.
const settingsFresh = time.Second

type settingsCopy struct {
	settings *command.Settings
	at       time.Time
}

// check returns the error of rule under the present settings.
func (s *Server) check(ctx context.Context, rule func(*command.Settings) error) error {
	held := s.settings.Load()
	if held != nil {
		if rule(held.settings) == nil {
			return nil
		}
		if time.Since(held.at) < settingsFresh {
			return rule(held.settings)
		}
	}
	fresh, err := s.readSettings(ctx)
	if err != nil {
		return backendError(ctx, err)
	}
	return rule(fresh)
}

func (s *Server) readSettings(ctx context.Context) (*command.Settings, error) {
	var set *command.Settings
	err := s.backend.Read(ctx, func(t *locktable.Table, _ locktable.Time) {
		set, _ = proto.Clone(t.Settings()).(*command.Settings)
	})
	if err != nil {
		return nil, err
	}
	s.settings.Store(&settingsCopy{set, time.Now()})
	return set, nil
}

// defaultLifetime is how long a hold or session lasts whose client did not say: 30 seconds, or the maximum if that is less.
func (s *Server) defaultLifetime(ctx context.Context) (time.Duration, error) {
	held := s.settings.Load()
	set := held.settings
	if time.Since(held.at) >= settingsFresh {
		var err error
		if set, err = s.readSettings(ctx); err != nil {
			return 0, backendError(ctx, err)
		}
	}
	return min(defaultTTL, time.Duration(set.GetMaxTtl())), nil
}

// checkName refuses names that the table would refuse.
func (s *Server) checkName(ctx context.Context, name string) error {
	return s.check(ctx, func(set *command.Settings) error {
		if err := locktable.CheckName(set, name); err != nil {
			return fail(CodeInvalidName, sentence(err.Error()))
		}
		return nil
	})
}
