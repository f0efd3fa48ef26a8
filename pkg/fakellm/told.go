package fakellm

import (
	"encoding/json"
	"regexp"
	"strings"
)

var toldBound = regexp.MustCompile(`\b(?:(minLength|maxLength|minProperties|maxProperties): (\d+)|(uniqueItems): (true)|(format|pattern): ("(?:[^"\\]|\\.)*"))`)

// heed reads the bounds that a description tells, as a model does: strict mode leaves no other place to some of them.
func (w *wireSchema) heed() {
	for _, told := range toldBound.FindAllStringSubmatch(w.Description, -1) {
		name, value := strings.Join([]string{told[1], told[3], told[5]}, ""), strings.Join([]string{told[2], told[4], told[6]}, "")
		_ = json.Unmarshal([]byte(`{"`+name+`":`+value+`}`), w) // words that look like a bound may be none
	}
}
