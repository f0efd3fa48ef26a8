package schema

import (
	"fmt"

	"github.com/xeipuuv/gojsonschema"
)

// localLoader gives gojsonschema a decoded document and no way to load another one. lint refuses foreign
// references with better words; this holds even if it should ever miss one.
type localLoader struct{ gojsonschema.JSONLoader }

// LoaderFactory returns a factory of loaders that refuse.
func (localLoader) LoaderFactory() gojsonschema.JSONLoaderFactory { return refusingFactory{} }

type refusingFactory struct{}

func (refusingFactory) New(source string) gojsonschema.JSONLoader {
	return refusingLoader{JSONLoader: gojsonschema.NewRawLoader(nil), source: source}
}

type refusingLoader struct {
	gojsonschema.JSONLoader
	source string
}

func (l refusingLoader) LoadJSON() (any, error) {
	return nil, fmt.Errorf("the reference %q leads out of the document: nothing is loaded from elsewhere", l.source)
}
