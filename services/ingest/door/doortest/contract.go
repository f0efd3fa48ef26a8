package doortest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"spillway/schemas"
)

// Contract is what a door promises.
type Contract struct {
	spec *openapi3.T
	// routes finds the operation of a request, by the rules of the mux that serves it.
	routes *http.ServeMux
	// bodies are the compiled schemas of the bodies: kin-openapi itself compiles them anew for each.
	bodies map[*openapi3.MediaType]*jsonschema.Schema
	// refusal is any problem.
	refusal *jsonschema.Schema
	// told are the schemas of what is told, by channel and then by the name of the message.
	told map[string]map[string]*jsonschema.Schema
}

// Read reads the documents, once in a process.
var Read = sync.OnceValues(func() (*Contract, error) {
	documents, err := schemas.ReadContract()
	if err != nil {
		return nil, err
	}
	c := &Contract{routes: http.NewServeMux(), bodies: map[*openapi3.MediaType]*jsonschema.Schema{}, told: map[string]map[string]*jsonschema.Schema{}}
	return c, firstOf(func() error { return c.readOpenAPI(documents) }, func() error { return c.readAsyncAPI(documents) })
})

func firstOf(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Contract) readOpenAPI(documents *schemas.Contract) error {
	text, err := documents.OpenAPI("http://127.0.0.1")
	if err != nil {
		return err
	}
	whole, err := closed(text)
	if err != nil {
		return err
	}
	text, err = json.Marshal(whole)
	if err != nil {
		return err
	}
	if c.spec, err = openapi3.NewLoader().LoadFromData(text); err != nil {
		return fmt.Errorf("load the OpenAPI document: %w", err)
	}
	if err := c.spec.Validate(context.Background()); err != nil {
		return fmt.Errorf("the OpenAPI document: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource(openAPI, whole); err != nil {
		return err
	}
	if c.refusal, err = compiler.Compile(openAPI + "#/components/schemas/Problem"); err != nil {
		return err
	}
	for path, item := range c.spec.Paths.Map() {
		for method, operation := range item.Operations() {
			at := "#/paths/" + escaped(path) + "/" + strings.ToLower(method)
			if err := c.compile(compiler, at, operation); err != nil {
				return err
			}
			c.serve(&routers.Route{Spec: c.spec, Path: path, PathItem: item, Method: method, Operation: operation})
		}
	}
	return nil
}

const openAPI = "https://spillway.invalid/openapi.json"

// compile compiles the schemas of an operation's bodies.
func (c *Contract) compile(compiler *jsonschema.Compiler, at string, operation *openapi3.Operation) error {
	contents := map[string]openapi3.Content{}
	if operation.RequestBody != nil {
		contents[at+"/requestBody"] = operation.RequestBody.Value.Content
	}
	for status, response := range operation.Responses.Map() {
		place := at + "/responses/" + status
		if response.Ref != "" {
			place = response.Ref
		}
		contents[place] = response.Value.Content
	}
	for place, content := range contents {
		for kind, media := range content {
			schema, err := compiler.Compile(openAPI + place + "/content/" + escaped(kind) + "/schema")
			if err != nil {
				return fmt.Errorf("compile %s of %s: %w", kind, place, err)
			}
			c.bodies[media] = schema
		}
	}
	return nil
}

// escaped makes a name a token of a JSON pointer in a URL.
func escaped(name string) string {
	return url.PathEscape(strings.NewReplacer("~", "~0", "/", "~1").Replace(name))
}

// serve makes the operation be found.
func (c *Contract) serve(route *routers.Route) {
	c.routes.HandleFunc(route.Method+" "+route.Path, func(_ http.ResponseWriter, r *http.Request) {
		found, _ := r.Context().Value(foundKey{}).(*match)
		found.route, found.values = route, map[string]string{}
		for segment := range strings.SplitSeq(route.Path, "/") {
			if name, ok := strings.CutPrefix(segment, "{"); ok {
				name = strings.TrimSuffix(name, "}")
				found.values[name] = r.PathValue(name)
			}
		}
	})
}

type foundKey struct{}

// match is the operation of a request.
type match struct {
	route  *routers.Route
	values map[string]string
}

// find returns the operation that a request is for; its route is nil if the document describes none.
func (c *Contract) find(r *http.Request) *match {
	found := &match{}
	c.routes.ServeHTTP(nowhere{}, r.Clone(context.WithValue(r.Context(), foundKey{}, found)))
	return found
}

// nowhere is where the mux says that there is no route.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) WriteHeader(int)             {}

// closed decodes a document and adds to each schema of an object that it has no other members than those.
func closed(text []byte) (any, error) {
	var whole any
	if err := json.Unmarshal(text, &whole); err != nil {
		return nil, err
	}
	closeObjects(whole, false)
	return whole, nil
}

// closeObjects leaves the parts of an allOf open: the others have members too.
func closeObjects(node any, part bool) {
	switch node := node.(type) {
	case map[string]any:
		_, isObject := node["properties"].(map[string]any)
		_, says := node["additionalProperties"]
		if isObject && !says && !part {
			node["additionalProperties"] = false
		}
		for name, member := range node {
			if parts, ok := member.([]any); ok && name == "allOf" {
				for _, p := range parts {
					closeObjects(p, true)
				}
				continue
			}
			closeObjects(member, false)
		}
	case []any:
		for _, member := range node {
			closeObjects(member, false)
		}
	}
}

// Exchange is a request and what it was answered with.
type Exchange struct {
	Request  *http.Request
	Sent     []byte // the request's body
	Status   int
	Header   http.Header
	Received []byte // the response's body
}

// Check says what of an exchange the document does not describe.
func (c *Contract) Check(e *Exchange) error {
	found := c.find(e.Request)
	if found.route == nil {
		return c.checkStray(e)
	}
	asked := &openapi3filter.RequestValidationInput{
		Request: e.Request, PathParams: found.values, Route: found.route, QueryParams: e.Request.URL.Query(),
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true, ExcludeRequestBody: true, ExcludeResponseBody: true},
	}
	if err := c.checkResponse(e, asked); err != nil {
		return fmt.Errorf("the response: %w", err)
	}
	if e.Status >= http.StatusBadRequest {
		return nil // what is refused may be anything
	}
	if err := c.checkRequest(e, asked); err != nil {
		return fmt.Errorf("the request, which was taken: %w", err)
	}
	return nil
}

func (c *Contract) checkRequest(e *Exchange, asked *openapi3filter.RequestValidationInput) error {
	if err := openapi3filter.ValidateRequest(context.Background(), asked); err != nil {
		return err
	}
	body := asked.Route.Operation.RequestBody
	if body == nil {
		return nil
	}
	return c.checkBody(body.Value.Content["application/json"], e.Sent) // or another name for JSON
}

func (c *Contract) checkResponse(e *Exchange, asked *openapi3filter.RequestValidationInput) error {
	answer := &openapi3filter.ResponseValidationInput{RequestValidationInput: asked, Status: e.Status, Header: e.Header, Options: asked.Options}
	if err := openapi3filter.ValidateResponse(context.Background(), answer); err != nil {
		return err
	}
	response := asked.Route.Operation.Responses.Status(e.Status)
	if response == nil {
		return fmt.Errorf("the status %d is not described", e.Status) // of a HEAD, at which kin-openapi does not look
	}
	described := response.Value
	for name := range e.Header {
		if !isCommon(name) && !has(described.Headers, name) {
			return fmt.Errorf("the header %s of a %d is not described", name, e.Status)
		}
	}
	kind := e.Header.Get("Content-Type")
	media := described.Content.Get(kind)
	switch {
	case e.Request.Method == http.MethodHead, e.Status == http.StatusSwitchingProtocols:
		return nil
	case len(described.Content) == 0 && len(e.Received) > 0:
		return fmt.Errorf("a %d with a body", e.Status)
	case len(described.Content) == 0:
		return nil
	case media == nil:
		return fmt.Errorf("the content type %q of a %d is not described", kind, e.Status)
	case !strings.HasSuffix(kind, "json"):
		return nil // a text is a text; what events tell is checked by CheckTold
	}
	return c.checkBody(media, e.Received)
}

func (c *Contract) checkBody(described *openapi3.MediaType, body []byte) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("a body that is no JSON: %w", err)
	}
	return c.bodies[described].Validate(value)
}

func has(described openapi3.Headers, name string) bool {
	for n := range described {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// isCommon reports whether a header is one of HTTP or CORS that any response may have.
func isCommon(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Cache-Control", "Connection", "Content-Length", "Content-Type", "Date", "Transfer-Encoding", "Vary", "X-Content-Type-Options":
		return true
	}
	return strings.HasPrefix(http.CanonicalHeaderKey(name), "Access-Control-")
}

// checkStray looks at the answer to a request for what is not described: a refusal, or that to a browser's preflight.
func (c *Contract) checkStray(e *Exchange) error {
	if e.Request.Method == http.MethodOptions && e.Status == http.StatusNoContent && len(e.Received) == 0 {
		return nil
	}
	want := map[int]string{http.StatusNotFound: "no_such_route", http.StatusMethodNotAllowed: "method_not_allowed", http.StatusForbidden: "forbidden"}[e.Status]
	if want == "" || e.Header.Get("Content-Type") != "application/problem+json" {
		return fmt.Errorf("status %d and %s for what is not described", e.Status, e.Header.Get("Content-Type"))
	}
	if e.Status == http.StatusMethodNotAllowed && e.Header.Get("Allow") == "" {
		return fmt.Errorf("a 405 without Allow")
	}
	if e.Request.Method == http.MethodHead {
		return nil
	}
	body, err := jsonschema.UnmarshalJSON(bytes.NewReader(e.Received))
	if err != nil {
		return fmt.Errorf("a problem that is no JSON: %w", err)
	}
	if fields, _ := body.(map[string]any); fields["code"] != want {
		return fmt.Errorf("status %d with the code %v", e.Status, fields["code"])
	}
	return c.refusal.Validate(body)
}

// Routes are the methods and paths that the OpenAPI document describes, in order.
func (c *Contract) Routes() []string {
	var all []string
	for path, item := range c.spec.Paths.Map() {
		for method := range item.Operations() {
			all = append(all, method+" "+path)
		}
	}
	slices.Sort(all)
	return all
}
