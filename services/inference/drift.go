package inference

import (
	"fmt"
	"sync"
	"time"

	"spillway/pkg/job"
)

const (
	// warnAgain is how long one name that a model should not answer under is not warned of again.
	warnAgain = time.Hour
	// maxStrangers bounds the names that are remembered: a provider may make up one for each call.
	maxStrangers = 256
	// maxName bounds what is repeated of a name.
	maxName = 128
)

// strangers are the names under which models answered that models.yaml does not expect.
type strangers struct {
	mu   sync.Mutex
	told map[stranger]time.Time
}

type stranger struct{ model, name string }

// isNews reports whether a name is to be warned of at now: the first time, and again when that was long ago.
func (s *strangers) isNews(model, name string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := stranger{model, name}
	if at, known := s.told[key]; known && now.Sub(at) < warnAgain {
		return false
	}
	for other, at := range s.told {
		if now.Sub(at) >= warnAgain {
			delete(s.told, other)
		}
	}
	if len(s.told) >= maxStrangers {
		return false
	}
	if s.told == nil {
		s.told = map[stranger]time.Time{}
	}
	s.told[key] = now
	return true
}

// isStranger reports whether another model answered than models.yaml names. A dated name is another one: that a name
// without a date means a new model some day is what answers_as is for.
func (c *call) isStranger() bool {
	return c.model.AnswersAs != "" && c.answeredBy != "" && c.answeredBy != c.model.AnswersAs
}

// recognize counts and warns when another model answered than models.yaml names.
func (h *Handler) recognize(c *call) {
	if !c.isStranger() {
		return
	}
	h.metrics.strangers.WithLabelValues(c.model.Name).Inc()
	name := job.Cut(c.answeredBy, maxName)
	if h.strangers.isNews(c.model.Name, name, time.Now()) {
		h.about(h.log.Warn(), c).Str("answered_by", name).Str("answers_as", c.model.AnswersAs).Str("task_version", c.task.Version).
			Msg("another model answered than models.yaml names: try the tasks on it, then correct answers_as or the model's id")
	}
}

// introduction is what the call's event says of a model that should not have answered.
func (c *call) introduction() string {
	return fmt.Sprintf("%s answered, models.yaml names %s (answers_as)", job.Cut(c.answeredBy, maxName), c.model.AnswersAs)
}
