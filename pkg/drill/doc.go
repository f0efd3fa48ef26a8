// Package drill rehearses the night on which a provider fails, against a real pipeline and a simulated
// provider that misbehaves, and says what became of every request.
//
// Incident is the night of the story: at 11 PM the model turns to 429, then the whole provider answers only
// after 15 to 25 seconds, then all is well again. Requests go on evenly all the time.
//
//	23:00 well ── 23:04 429 by the task's model ── 23:09 first tokens after 15-25 s, by all ── 23:14 well ──
//	  │             others still answer              nobody answers in time                    │
//	  │             (rung: another model)            (rungs: cache, canned)                    └─ live again
//	  └─ each request has an input of its own; later, a fifth repeats one of these (rung: cache)
//
//	then   whatever ended degraded or failed, and has a dead letter, is replayed
//
// The night has a time of its own, and Options.Speed says how many times as fast it goes by. A pipeline that is
// to behave as it would at night has its times divided likewise (task.Set.Hurried).
//
// # What is believed of whom
//
// Nothing of the code under test is asked what it did:
//
//   - acknowledged is what JetStream acknowledged to the drill's own publish;
//   - results are heard by a core subscription of the drill's own connection, and what it missed is read from
//     the stream of results when the time is over. No result by then is a lost request;
//   - late is by the drill's clock: later than the acknowledgement and the task's deadline. A result that
//     calls itself late is late too;
//   - whose answer it is, is told by the nonce that the provider made of the input that it was called with, and
//     by the request's number, which comes back in the metadata. A task whose answers have no text with room
//     for a nonce is judged by the number alone, and the report says so;
//   - calls, and when they came, are the provider's own count, over all that called it;
//   - breakers are believed when they say that they opened or closed. What that was worth, the provider's
//     count shows. The clocks of the provider's machine and of this one are taken to agree; Incident refuses
//     where they differ by seconds.
//
// The price is what the results tell.
//
// # Never
//
// The drill never calls a model, and steers nothing that does not answer as a simulated provider. Before the
// night one request must arrive there, or nothing is begun. However it ends, the provider is reset.
//
// Pinned by the tests of this package, and by TestTheNightOfTheIncidentLosesNothing beside the command.
package drill
