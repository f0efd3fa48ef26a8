// Package drift notices when a task's share of bad answers doubles: prompts break when a model changes, and nobody was
// told that it would.
//
// For each task and kind ([Invalid], [Degraded]) a process compares its newest answers with those before them, the usual
// ones:
//
//	usual, at most 8,192 answers ── the newest 50, 200, 1,000
//
// The share has doubled when, in one of the three windows, it is at least twice the usual one and chance alone does not
// explain it: of all ways to draw the window out of window and usual answers together, at most one in 300,000 has as many
// bad ones in it (Fisher's exact test, one-sided). That bound is exact for every share and every number of answers, so that
// over the three windows a share that stays as it is alarms less than once in 100,000 answers, however often one looks:
// TestChanceIsWhatBinomialsOfAnySizeSay, TestASteadyShareAlarmsNoMoreOftenThanItsBound. Short windows see a break within a
// few dozen answers, the long one sees 2 % become 5 %: TestABreakIsSeenSoon.
//
//	armed ── doubled ──▶ alarmed ── the window is back near the usual share ──▶ armed, the answers since are forgotten
//	                        └────── 2,000 answers later it is not ───────────▶ armed, with what came since as the usual
//
// Before 200 usual answers there is nothing to compare with. A share above a half can not double. An outage shows as well,
// in what is degraded: the log beside it says which it is. Each process has its own answers, and begins anew with each
// start; versions of a task are not told apart, for a new one may be what broke it.
package drift
