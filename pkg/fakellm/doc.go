// Package fakellm is a simulated OpenAI-compatible provider: a real HTTP server, without a model.
//
// It is what answers when Spillway runs without an API key, and it is the provider that misbehaves on
// purpose in tests. It speaks
//
//	POST /v1/chat/completions                                       plain and SSE
//	POST /openai/deployments/{deployment}/chat/completions          the same, as Azure has it; wants api-version
//	GET  /v1/models, /v1/models/{model}
//
// and, so that another process can steer it while it runs (see control.go for the bodies),
//
//	GET  /fake/counts      GET /fake/requests[?model=]      POST /fake/reset
//	GET  /fake/faults      PUT /fake/faults                 POST /fake/script
//	PUT  /fake/answers     PUT /fake/latency                PUT  /fake/usage
//	PUT  /fake/name
//	GET  /fake/limits      PUT /fake/limits                 GET  /fake/arrivals[?model=]
//
// # Answers
//
// A call that asks for a JSON schema, by response_format or by a schema's text in its system or developer
// message, gets a value that satisfies that schema; response_format json_object gets {"answer": …}; any
// other call gets text. The same messages get the same answer. Texts say that they are simulated.
//
// Every answer tells whose it is: the nonce of its input (see [Nonce]) stands as "[nonce:<16 hex>]" in the
// first string that has room for it, and always in the response id, chatcmpl-<nonce>-<n>. The input is the
// last user message, unless that one only corrects an answer of this server: then it is the user message
// before that answer. An answer counts as corrected when it was a bad one (by a fault below, or a literal
// off its schema), or when it comes back under the trace id of the call that it answered; a good answer
// that comes back as an earlier turn of a session does not.
//
// max_tokens and max_completion_tokens are honoured: a generated answer that is longer is cut, with finish
// reason length. Literal answers ([Server.SetAnswer]) are never cut; {{nonce}} in one becomes the nonce.
//
// Usage is characters divided by four, at least 1, of all message texts and of the answer's: no tokenizer.
// [Server.SetUsage] and Options.PromptTokens make it say, and limits count, something else. One such token is one
// chunk of a stream, unless Options.TokensPerChunk says more.
//
// Schemas: type, enum, const, (exclusive) minimum and maximum, multipleOf, minLength, maxLength, pattern
// (those that Go's regexp understands), format, items, prefixItems, minItems, maxItems, uniqueItems,
// properties, required, additionalProperties, minProperties, maxProperties, allOf, anyOf and oneOf (the
// first branch that fits), and $ref within the document. if, not, contains, dependencies, propertyNames and
// patternProperties are read over. n above 1 and tools are ignored.
//
// # Limits
//
// A [Limit] is on requests, tokens and concurrency, of one model or of all together. A call that exceeds one
// gets a 429 at once, in OpenAI's shape with code rate_limit_exceeded, before any fault has its turn:
//
//	exceeded               type      Retry-After (seconds, rounded up) and retry-after-ms
//	requests               requests  when the oldest call leaves the window
//	tokens                 tokens    when enough tokens left the window for the prompt
//	tokens, by one prompt  tokens    not said: it never fits
//	concurrency            requests  not said: nobody knows
//
// The windows slide: a call or a token counts from its moment until Window later, to the nanosecond. Refused
// calls count against no window. A prompt's tokens count when its call arrives, an answer's when its end is
// sent; a call is refused when what was used and its prompt are more than the limit. A call that was let in
// counts whatever fault it then gets. Its place under a limit on concurrency is free just before the answer's
// end is sent; of one that its client leaves, as soon as the server sees that.
//
// The counts have the refused calls under the outcome "limited", not "429". They use up no script and no
// literal answer, and are no calls of an input: Counts.Nonces and Fault.First do not count them.
//
// Headers of a [Limit] says it in x-ratelimit-{limit,remaining,reset}-{requests,tokens}, on errors and streams
// too; reset is a Go duration like 59.123s, until the whole window is empty. Models that no limit is about
// get such headers with numbers far from any limit.
//
// # Faults
//
// Each is one kind of misbehaviour. Those with status 200 take the time that Options.Latency says, the
// others happen at once. Where a plain (not streamed) call can not show a kind, the table
// says what it gets.
//
//	kind                  what the caller sees                                        parameters (default)
//	ok                    a good answer; for scripts
//	429                   rate limited                                                RetryAfter, Form
//	429_quota             429, code insufficient_quota: the bill
//	401                   code invalid_api_key
//	403                   code unsupported_country_region_territory
//	404                   code model_not_found
//	400                   invalid_request_error
//	400_content_filter    400, code content_filter with innererror, as Azure has it
//	context_length        400, code context_length_exceeded
//	500                   server_error                                                RetryAfter, Form
//	502                   a gateway's HTML body                                       RetryAfter, Form
//	503                   overloaded                                                  RetryAfter, Form
//	529                   overloaded, with Anthropic's body                           RetryAfter, Form
//	reset                 TCP RST: before any byte, or After chunks into the answer   After (0)
//	hang                  no byte, until the client leaves or the server closes
//	hang_headers          status 200 and headers, then no token for ever              Every (0: no comments)
//	silence               some tokens, then nothing                                   After (1), Every
//	drip                  one chunk each Every; plain: the body in as many pieces     Every (1s)
//	cut                   a clean end without finish reason and [DONE];               After (half)
//	                      plain: half a JSON document
//	no_done               finish reason, then the end without [DONE]; plain: as ok
//	empty_choices         200 with choices []
//	empty_content         200, finish reason stop, content ""
//	error_body            200 application/json {"error":{…,"code":502}}
//	error_chunk           a data line {"error":…} in the stream, then the end;        After (1)
//	                      plain: as error_body
//	html                  200 text/html
//	malformed_chunk       one more data line that is no JSON, in a good stream;       After (1)
//	                      plain: as ok
//	comments              SSE comments and empty lines before the first token;        Count (400), Every (0)
//	                      plain: as ok
//	fenced                the answer in a ```json fence
//	prose                 the answer between two sentences
//	trailing_comma        a comma before the answer's last bracket
//	off_schema            valid JSON that violates the schema
//	off_schema_once_told  the same, until the dialogue ends in a bad answer of this
//	                      server and a correction
//	length                the answer cut, finish reason length                        Tokens (half)
//	length_until          length, unless the call's max tokens are above Tokens,      Tokens (0)
//	                      or, with 0, above those of the input's previous call
//	refusal               refusal instead of content, finish reason stop              Message
//	content_filter        half of the content, finish reason content_filter
//	huge                  the answer and filler up to Bytes                           Bytes (1 MiB + 64 KiB)
//
// With Every, hang_headers and silence send a comment each Every: a connection that looks alive and says
// nothing. Message replaces the message of errors that have OpenAI's shape, too. Header adds or replaces
// response headers of any kind that sends some, "ok" too. Streams on Azure's path begin with a chunk without
// choices, as there.
package fakellm
