package locktable

import "fmt"

// How random runs compare tasks with the model.

// sameTasks compares all tasks, listed in pages of two.
func (w *world) sameTasks() error {
	var all []TaskInfo
	for after := ""; ; after = all[len(all)-1].Name {
		page := w.t.Tasks("", after, 2)
		all = append(all, page...)
		if len(page) < 2 {
			break
		}
	}
	if len(all) != len(w.m.tasks) {
		return fmt.Errorf("%d tasks, the model has %d", len(all), len(w.m.tasks))
	}
	for i, x := range w.m.tasks {
		if err := sameTask(&all[i], w.m.taskInfo(x)); err != nil {
			return err
		}
	}
	return nil
}

func sameTask(a, b *TaskInfo) error {
	if (a == nil) != (b == nil) || a != nil && *a != *b {
		return fmt.Errorf("task %+v\nthe model says %+v", a, b)
	}
	return nil
}
