//go:build linux

package torture

import (
	"fmt"
	"strings"

	"github.com/anishathalye/porcupine"
)

// explain tells where the longest order of steps that makes sense ends: what happened last in it, and what must have happened then
// and cannot have.
func explain(all []porcupine.Operation) string {
	_, info := porcupine.CheckOperationsVerbose(model, all, linearBudget)
	var longest []porcupine.Operation
	for _, part := range info.PartialLinearizationsOperations() {
		for _, order := range part {
			if len(order) > len(longest) {
				longest = order
			}
		}
	}
	var state any = lockState{}
	in := map[*step]bool{}
	var b strings.Builder
	for i, o := range longest {
		q, _ := o.Input.(*step)
		in[q] = true
		_, state = model.Step(state, q, nil)
		if i >= len(longest)-12 {
			fmt.Fprintf(&b, "\n    %s: %s -> %s", q.kind, q.what, model.DescribeState(state))
		}
	}
	b.WriteString("\n  not explained:")
	left := 0
	for _, o := range all {
		if q, _ := o.Input.(*step); !in[q] && !q.optional() && left < 12 {
			left++
			fmt.Fprintf(&b, "\n    %s: %s [%s to %s]", q.kind, q.what, at(o.Call), at(o.Return))
		}
	}
	return b.String()
}

func (k stepKind) String() string {
	return [...]string{
		"granted", "refused", "kept", "freed", "not mine", "settled", "seen held", "seen free", "maybe granted", "maybe freed", "taken back",
	}[k]
}
