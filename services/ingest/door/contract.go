package door

import (
	"net/http"

	"spillway/schemas"
)

// openAPI serves the document of the routes.
func (d *Door) openAPI(w http.ResponseWriter, r *http.Request) {
	d.writeDocument(w, r, (*schemas.Contract).OpenAPI)
}

// asyncAPI serves the document of what is said over NATS, and in streams and WebSockets.
func (d *Door) asyncAPI(w http.ResponseWriter, r *http.Request) {
	d.writeDocument(w, r, (*schemas.Contract).AsyncAPI)
}

// writeDocument needs no key: what is in it is no secret.
func (d *Door) writeDocument(w http.ResponseWriter, r *http.Request, document func(*schemas.Contract, string) ([]byte, error)) {
	contract, err := d.contract()
	if err != nil {
		panic(err) // rescued, and logged
	}
	body, err := document(contract, d.base(r))
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	writing(w)
	_, _ = w.Write(body) // who left needs no answer
}
