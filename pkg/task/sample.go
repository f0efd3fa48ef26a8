package task

import "spillway/pkg/schema"

// Sample returns an input for self-checks of a task, as JSON: that of its first case, else one made from its
// input schema, else {}. nil: there is no such task.
func (s *Set) Sample(name string) []byte {
	t, ok := s.Tasks[name]
	switch {
	case !ok:
		return nil
	case len(t.Cases) > 0:
		return t.Cases[0].Input
	case t.Input == nil:
		return []byte("{}")
	}
	value, _ := t.Input.Sample(schema.Everything)
	text, err := Canonical(value)
	if err != nil {
		return []byte("{}")
	}
	return text
}
