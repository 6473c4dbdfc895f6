package supervise

import (
	"errors"
	"io"
	"testing"
)

// The guardian's last word counts, even when an order crossed it: a deadline that was sent in the moment of the end.
func TestLastReportIsReadAfterAnOrderThatWasNot(t *testing.T) {
	t.Parallel()
	mine, its, err := newWires()
	if err != nil {
		t.Fatal(err)
	}
	defer mine.close()
	if err := errors.Join(mine.send(&order{KillAt: 1}), its.send(&report{Gone: &Outcome{Code: 7}})); err != nil {
		t.Fatal(err)
	}
	its.close()
	var r report
	if err := mine.receive(&r, 0); err != nil || r.Gone == nil || r.Gone.Code != 7 {
		t.Errorf("the report is %+v, %v", r, err)
	}
	if err := mine.receive(&r, 0); !errors.Is(err, io.EOF) {
		t.Errorf("after it: %v", err)
	}
}
