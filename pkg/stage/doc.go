// Package stage is the runner: all that the stages of the pipeline have in common, in one place.
//
// A stage is a Definition and a Handler. The runner pulls messages, leases them while they are held,
// calls the handler, and settles: it is the only code that publishes a hand-over and the only code that
// acknowledges. What a delivery goes through:
//
//	pulled ── decoded ── due? ── delivered too often? ── past the deadline? ── Handle ── settle
//	             │         │              │                      │                         │
//	        dead letter  handed      dead letter,            to fallback      hand-over stored, then ack
//	         (raw)       back        then fallback
//
// The order inside settle is the guarantee: the hand-over is acknowledged by JetStream before the message
// is acknowledged to it. A crash in between repeats the hop under the same message id; it never loses it.
//
// # Lanes
//
// A stage has an inbox for each lane, and few slots for batch: a crowd of batch jobs neither stands before an
// interactive one nor takes the machine from it. A stage may have more inboxes, which depend on what is
// loaded (Puller).
//
// # Pull by credit
//
// A pull request asks for exactly the free slots, so that nothing waits in a client's buffer, where its
// lease would run out (TestNothingWaitsInAClientBuffer). An inbox has four windows, each with one pull
// request under way at most; a window whose request was not answered in time is taken as lost and asked
// again, so the pull survives reconnects, elections and a restarted server (TestABrokerOutageRepeatsNoWork).
//
// # Leases
//
// Everything held gets a sign of life every 2 s; the broker delivers again after 6 s without one. A
// redelivery of what this process still holds only renews the handle; one of what it settled already is
// acknowledged again and runs nothing.
package stage
