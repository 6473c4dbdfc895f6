package main

import (
	"fmt"
	"time"
)

// explanation is what the server says of a lock beside its holders and its queue.
type explanation struct {
	Expected  *float64      `json:"expected_wait"` // seconds, of one who comes now
	Asked     *askedAnswer  `json:"asked"`
	WaitsFor  []waitAnswer  `json:"waits_for"`
	InCircle  bool          `json:"waits_in_circle"`
	WaitsMore bool          `json:"waits_cut_off"`
	Hold      *holderAnswer `json:"hold"`
	Place     *placeAnswer  `json:"place"`
}

// askedAnswer is what the holders are asked.
type askedAnswer struct {
	Owner  string    `json:"owner"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	Within float64   `json:"within"` // seconds
	DueIn  float64   `json:"due_in"` // seconds
}

// waitAnswer is who waits for what.
type waitAnswer struct {
	Owner    string `json:"owner"`
	WaitsFor string `json:"waits_for"`
	HeldBy   string `json:"held_by"`
	Token    uint64 `json:"token"`
	Queued   bool   `json:"queued"`
}

// placeAnswer is one's own place in the queue.
type placeAnswer struct {
	Position  int      `json:"position"`
	Expected  *float64 `json:"expected_wait"` // seconds
	GivesUpIn *float64 `json:"gives_up_in"`   // seconds
}

// about is a guess in seconds as a person reads it, or a dash for none.
func about(seconds *float64) string {
	if seconds == nil {
		return "-"
	}
	return "~" + ago(*seconds)
}

// clock is a time of day on this machine, to the second, with the date.
func clock(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// somebody is an owner in a sentence.
func somebody(owner string) string {
	if owner == "" {
		return "somebody"
	}
	return owner
}

// sentences say what the tables do not. mine says that somebody asked with a key.
func (e *explanation) sentences(mine bool) []string {
	var out []string
	if e.Expected != nil {
		out = append(out, fmt.Sprintf("Who comes now may have to wait about %s, from how long the lock was held before.", ago(*e.Expected)))
	}
	if a := e.Asked; a != nil {
		out = append(out, a.sentence())
	}
	for i := range e.WaitsFor {
		out = append(out, e.WaitsFor[i].sentence())
	}
	switch {
	case e.InCircle:
		out = append(out, "They wait for each other: none of them gets on by itself.")
	case e.WaitsMore:
		out = append(out, "... and so on")
	}
	if mine {
		out = append(out, e.mine())
	}
	return out
}

func (a *askedAnswer) sentence() string {
	return fmt.Sprintf("Asked to make way by %s at %s, within %s (%s left): %s", somebody(a.Owner), clock(a.Since), ago(a.Within), ago(a.DueIn), a.Reason)
}

func (w *waitAnswer) sentence() string {
	text := fmt.Sprintf("%s waits for %q", somebody(w.Owner), w.WaitsFor)
	switch {
	case w.Queued:
		return text + ", behind " + somebody(w.HeldBy) + ", who came before"
	case w.Token == 0:
		return text + ", which nobody holds yet"
	}
	return fmt.Sprintf("%s, held by %s (token %d)", text, somebody(w.HeldBy), w.Token)
}

// mine says what becomes of the one who asked.
func (e *explanation) mine() string {
	switch {
	case e.Hold != nil:
		return fmt.Sprintf("You hold it (token %d) since %s; the hold expires in %s unless renewed.", e.Hold.Token, clock(e.Hold.Since), ago(e.Hold.ExpiresIn))
	case e.Place == nil:
		return "Your key neither holds this lock nor waits for it."
	}
	text := fmt.Sprintf("Your place in the queue is %d", e.Place.Position)
	if e.Place.Expected != nil {
		text += ", for about another " + ago(*e.Place.Expected)
	}
	if e.Place.GivesUpIn != nil {
		text += "; your wait runs out in " + ago(*e.Place.GivesUpIn)
	}
	return text + "."
}
