// Package bench measures a pipeline beside a bare JetStream relay, on the same machine in the same run.
//
// A number of jobs a second says little about a machine that nobody else has; a ratio does. So each figure of
// the pipeline stands next to that of a relay which does nothing but what cannot be left out:
//
//	request ── inbox ── inbox ── inbox ── inbox ── result      six messages stored, with message ids
//	         ack      ack   |  ack      ack     ack            five of them acknowledged, one by one
//	                        └── the same HTTP call to the same simulated provider
//
// It pulls by credit and publishes asynchronously, as the pipeline does. It decodes nothing, checks nothing,
// counts no tokens, renders no prompt, keeps no history, and admits a request as often as it comes. What the
// pipeline takes beyond it is the price of all that.
//
// Nothing is believed of the code under test: results are counted by a subscriber with a connection of its
// own, each must carry the nonce that the provider made of the job's own text, calls are the provider's
// count, and redeliveries are the difference between what consumers delivered and what streams stored.
//
// # Calls at once
//
// InFlight publishes many requests at once, to a model that takes seconds. Beside the pipeline stands a bare
// HTTP client that makes the same calls, each on a goroutine and a connection of its own. The provider is
// another process then: what is left in this one, divided by the calls, is the memory of a call in flight.
// The peak is taken over the whole crowd, from the first publish to the last result. It is an upper bound: the
// server's caches and the garbage of publishing and answering are in it. Each crowd has a provider of its own,
// and the pipeline's goes first, in a process that has grown for nothing else.
//
// # A flood of batch
//
// Flood measures jobs of the interactive lane at a steady rate: alone, from the first answer of a flood of
// batch requests on, and once more when that flood was published and admission has come to rest.
//
//	batch        publish publish publish publish ············ (what is left is thrown away)
//	answers         ├─┬──┬─┬──┬─┬─┬──┬─┬─┬──┬─┬──┬─┬─┬─┬──┬─┬─┬
//	interactive     └ begins ┘                └ steady ┘
//
// The latencies are whole ones, the model's part included: it is the same in all three, and in the
// differences it is not.
//
// # Malformed answers
//
// Validity plays recorded answers through a pipeline, a few at once: each is what a model says first to a request
// of its own, and when it is told what is wrong it says what satisfies the schema. What came of an answer is
// compared with what a person took it to mean. Live asks real models, of whom nobody knows what they meant.
//
// # A long conversation
//
// Context sends one request after the other in one session. The provider counts what it received with the
// vocabulary's own library, each text as a whole, and shares no code with what counts in the pipeline. What the whole
// history would have taken is counted the same way, of all that was said. Draw makes a picture of both.
//
// # What shares this process
//
// On an embedded server everything shares this process: the CPU time and the memory are those of server,
// stages, provider, publisher and subscriber together, of the relay as of the pipeline.
package bench
