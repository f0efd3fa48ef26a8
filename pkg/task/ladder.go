package task

import "time"

// defaultMaxAge is how old a cached answer may be that stands in for a real one.
const defaultMaxAge = 24 * time.Hour

// ladder reads the degraded answers. Without the key it is the cache, and canned when there is canned.yaml.
func (t *taskLoader) ladder(m *mapping) {
	items, ok := m.list("ladder")
	reason, reasoned := m.text("no_ladder", &t.task.NoLadder)
	m.choice("after_refusal", &t.task.AfterRefusal, RungCanned, "ladder", "fail")
	m.truth("keep_degraded", &t.task.KeepDegraded)
	if n, written := m.get("ladder"); written {
		t.ladderWritten = true
		if ok && len(items) == 0 && t.task.NoLadder == "" {
			t.at(m.file, n, `an empty ladder needs no_ladder: "why"`)
		}
	}
	if reasoned && (!t.ladderWritten || len(items) > 0) {
		t.at(m.file, reason, "no_ladder is for an empty ladder: write ladder: [] or remove it")
	}
	for i, n := range items {
		t.rung(m.file, n, i == len(items)-1)
	}
}

func (t *taskLoader) rung(file string, n node, last bool) {
	m := t.mapping(file, n)
	var rung Rung
	m.choice("rung", &rung.Kind, RungCache, RungModel, RungCanned)
	if kind, ok := m.get("rung"); !ok && n.kind == kindMapping {
		t.at(file, n, "a step of the ladder needs rung: cache, model or canned")
	} else if rung.Kind == RungCanned {
		t.cannedRung = &kind
		if !last {
			t.at(file, kind, "canned always answers, so it must be the last rung")
		}
	}
	switch rung.Kind {
	case RungCache:
		rung.MaxAge = defaultMaxAge
		m.duration("max_age", &rung.MaxAge, time.Second, maxKeep)
	case RungModel:
		if name, ok := m.text("model", &rung.Model); ok {
			t.modelNamed(file, name)
		} else {
			t.at(file, n, "the rung model needs model: a name of %s", modelsFile)
		}
	}
	m.done()
	t.task.Ladder = append(t.task.Ladder, rung)
}

// ladderCheck holds ladder and canned.yaml together.
func (t *taskLoader) ladderCheck() {
	_, has := t.task.Files[cannedFile]
	if !t.ladderWritten {
		t.task.Ladder = []Rung{{Kind: RungCache, MaxAge: defaultMaxAge}}
		if has {
			t.task.Ladder = append(t.task.Ladder, Rung{Kind: RungCanned})
		}
		return
	}
	if t.cannedRung != nil && !has {
		t.at(t.path(manifestFile), *t.cannedRung, "the rung canned needs %s beside task.yaml", cannedFile)
	}
}
