package locktable

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// The words of scripts about asking, breaking, handing over, past holds and the calendar.

func (p *options) careCommand(verb string, word func(int) string) *command.Command {
	switch verb {
	case "ask":
		return command.FromAsk(&command.Ask{
			Name: word(0), Owner: p.take("owner"), Reason: p.text("reason"), Within: p.seconds("within"),
		})
	case "break":
		return command.FromBreak(&command.Break{
			Name: word(0), UpToToken: p.number("token"), Owner: p.take("owner"), Reason: p.text("reason"),
		})
	case "hand-over":
		return command.FromHandOver(&command.HandOver{
			Key: pad(word(0)), Name: word(1), To: p.take("to"), Session: pad(p.take("session")), Request: p.number("request"),
		})
	case "calendar":
		return command.FromCalendar(&command.Calendar{At: p.seconds("at"), Force: word(0) == "force"})
	}
	return nil
}

// text reads a text in which "~" stands for a space.
func (p *options) text(name string) string { return strings.ReplaceAll(p.take(name), "~", " ") }

// look shows a view.
func (s *script) look(word string, args []string) (string, error) {
	limit := 100
	if len(args) > 1 {
		var err error
		if limit, err = strconv.Atoi(args[1]); err != nil {
			return "", err
		}
	}
	switch word {
	case "history":
		return showHistory(s.subject.History(args[0], limit)), nil
	case "expect":
		if d, ok := s.subject.Expected(args[0]); ok {
			return "expected " + secs(int64(d)) + "\n", nil
		}
		return "nothing is known\n", nil
	case "explain":
		return showExplanation(s.subject.Explain(args[0], limit)), nil
	}
	d, err := time.ParseDuration(args[0])
	if wall, ok := s.subject.Calendar(Time(d)); ok {
		return "calendar " + secs(wall) + "\n", err
	}
	return "calendar unknown\n", err
}

func showHistory(hs []PastHold) string {
	if len(hs) == 0 {
		return "no past holds\n"
	}
	var b strings.Builder
	for _, h := range hs {
		how := map[EventKind]string{
			EventReleased: "released", EventExpired: "expired", EventBroken: "broken", EventHandedOver: "handed-over",
		}[h.How]
		fmt.Fprintf(&b, "%s%s token=%d from=%s to=%s%s%s%s", how, named(h.Owner, ""), h.Token, secs(int64(h.Since)), secs(int64(h.Ended)),
			waited(int64(h.Waited)), kind(h.Mode, h.Slots), order2(h.By, h.Reason))
		if h.SinceWall != 0 || h.EndedWall != 0 {
			fmt.Fprintf(&b, " calendar=%s-%s", secs(h.SinceWall), secs(h.EndedWall))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func order2(by, reason string) string {
	s := ""
	if by != "" {
		s = " order=" + by
	}
	if reason != "" {
		s += fmt.Sprintf(" reason=%q", reason)
	}
	return s
}

func showExplanation(e Explanation) string {
	var b strings.Builder
	for _, w := range e.Waits {
		fmt.Fprintf(&b, "%s waits for %s", w.Owner, w.Lock)
		switch {
		case w.Queued:
			fmt.Fprintf(&b, " behind %s", w.HeldBy)
		case w.Token != 0:
			fmt.Fprintf(&b, " held by %s token=%d", w.HeldBy, w.Token)
		}
		b.WriteString("\n")
	}
	if e.Loop {
		b.WriteString("a loop\n")
	}
	if e.More {
		b.WriteString("and more\n")
	}
	if b.Len() == 0 {
		return "no chain\n"
	}
	return b.String()
}

func expected(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return " expected=" + secs(int64(d))
}

func asked(a *AskInfo) string {
	if a == nil {
		return ""
	}
	return fmt.Sprintf(" asked%s until=%s", order2(a.Owner, a.Reason), secs(int64(a.Until)))
}

func showOrder(e Event) string {
	order := order2(e.By, e.Reason)
	switch e.Kind {
	case EventBroken:
		return fmt.Sprintf("broken %s %s token=%d held=%s%s\n", unpad(e.Key), e.Lock, e.Token, secs(int64(e.HeldFor)), order)
	case EventHandedOver:
		return fmt.Sprintf("handed-over %s %s token=%d held=%s%s\n", unpad(e.Key), e.Lock, e.Token, secs(int64(e.HeldFor)), order)
	}
	return fmt.Sprintf("asked %s token=%d until=%s%s\n", e.Lock, e.Token, secs(int64(e.Deadline)), order)
}
