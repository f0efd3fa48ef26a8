// Package session is the memory of conversations: one record for each session of a task and a tenant, in a bucket
// that all processes change by compare-and-set.
//
// A request of a session is pending from its admission on, and a turn once its result is known, which whoever builds
// the session's next prompt finds out; of a session at rest, whoever looks before results expire. Turns that leave are folded into a summary. Everything stands in the order of
// acceptance:
//
//	        Join              Settle             Folded
//	ingest ------> pending -----------> turn -----------> summary
//	                  |      no output                       |
//	                  +-------------> nothing    Over: the place up to which all is folded
//
// Each step is for one id and once: repeated, it finds that it was done.
// TestEveryTurnIsRememberedOnceInTheOrderOfAcceptance pins it.
package session
