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
// On an embedded server everything shares this process: the CPU time and the memory are those of server,
// stages, provider, publisher and subscriber together, of the relay as of the pipeline.
package bench
