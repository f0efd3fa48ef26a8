// Package metric registers collectors where several owners in one process share them.
package metric

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Register puts *c into r, or into *c the collector that r has under the same name: two of a kind in one
// process count together. A nil r registers nowhere. The error is that of r.
func Register[C prometheus.Collector](r prometheus.Registerer, c *C) error {
	if r == nil {
		return nil
	}
	err := r.Register(*c)
	if known, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if same, ok := known.ExistingCollector.(C); ok {
			*c = same
			return nil
		}
	}
	return err
}
