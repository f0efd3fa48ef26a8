// Package limit keeps limits of calls that all replicas share: how many may be in flight, and how many
// requests and tokens a minute may bring, of a model, of a provider and of a task.
//
// A model, a provider or a task with a limit is an entity. It has one record in the bucket of limits, under
// model.<name>, provider.<name> or task.<name>, which is changed only in the place of the value that was read
// from the leader. A call needs a permit of each of its entities, of all or of none
// (TestSeveralLimitsAreTakenTogetherOrNotAtAll).
//
//	Take ──> here? ──yes──────────────────────────────────────> Permit ──> call ──> Done
//	          │ no                                                ^                  │ tokens used, or all
//	          v                                                   │ dispatch         v given back
//	        queue of its model and lane ── an exchange a second ──┘ <──────────── mends, free slots
//	                                            │  ^
//	                                            v  │ compare and set
//	                                      the entity's record
//
// # Rates
//
// A replica takes a block: what its waiters need and its recent calls suggest, at most what a second brings.
// It may use the block for 1 s without asking anybody. The record's log has the block at the end of that
// second; the next exchange moves what was used to the half second in which it was used, and what was not used
// goes back (TestWhatIsNotUsedIsGivenBack). So a busy replica exchanges about once a second and entity
// (TestExchangesDoNotGrowWithTheCalls), and one that is killed takes a block with it at most.
//
// A block of n is granted while
//
//	log of the last 60 s + 0.5 s jitter + 0.5 s grain, and of what may still be used  + n  <=  limit
//
// Why no window of the provider sees more than the limit: take the newest block of which a call arrives in
// the window. All other calls of the window were granted before it, and so were in the log when it was
// granted: at their half second if that was told, later if not. They were sent at most 60 s and a jitter
// before that block's calls arrive. The grant's own second needs no allowance, because the log only becomes
// emptier in it. TestNoWindowSeesMoreThanTheLimitThoughReplicasComeAndDie checks it from outside.
//
// The same is paced: a unit costs 62 s / limit of time (60 + 0.5 + 0.5 + the block's 1), and what is granted is
// paid up to 1 s from now at most (the theoretical arrival time of GCRA). That spreads the calls, and fills
// 60/62 = 96.8 % of every window. Unused pace is saved for a second while somebody is busy, so that a late
// exchange costs nothing (TestABlockIsASecondsWorthAndTheRoundIsFilledNotExceeded).
//
// While others wait, a replica leaves them what came in by their right since they were last here. A call that
// is larger than what an exchange brings is noted as a need: the pace is saved for it, the others leave it its
// part, and needs go by their age (TestALargeCallPassesAmongManySmallOnes, TestALowLimitIsUsedAndKept). One
// that is larger than the limit passes when the window is empty
// (TestACallLargerThanTheLimitPassesWhenTheWindowIsEmpty).
//
// The log speaks of the server's time. Each replica measures it by when the server stored a write of its own,
// at the first exchange and once a minute (TestReplicasWhoseClocksDifferKeepTheLimitTogether).
//
// # Tokens
//
// The tokens of a call are reserved when it is permitted. More than that is added to the log when it is done,
// when the provider counted the answer; less is given back. How many times the reservation calls use lately is
// in the record, and every replica reserves so many times what it is asked for: otherwise the answers that are
// on their way would come on top of a full window
// (TestAnswersThreeTimesLongerThanReservedStayWithinTheLimit). Not covered: a reserved answer counts from the
// call's start here and from its end at the provider. While the mix of calls stays the same that is the same
// rate; when long answers under way meet a sudden turn to long prompts, a window may see both.
//
// # Concurrency
//
// The record has each replica's claim: how many calls it may have in flight. A claim grows with its waiters
// and shrinks when it was not used for a second, or at once when others wait. It lives while its beat changes:
// the others judge that by their own clocks, from when they saw the last change, and drop it after 10 s
// (TestConcurrencyIsKeptOverReplicasAndTheDead). Who could not renew its claim for 7.5 s gives out nothing of
// it, before the others may count on it (TestAClaimThatMayBeTakenForDeadGivesOutNothing); calls that are still
// under way then go on, unseen. Replicas that want more than there is split it by their right; what does not
// divide goes around every 10 s (TestReplicasTakeTurnsAtASlotThatDoesNotDivide).
//
// # Lanes
//
// While interactive calls wait for what an entity has, batch gets its share of what is granted: each
// interactive grant brings batch the share of it, and when that makes up a call, the call goes first
// (TestBatchGetsItsShareWhileInteractiveWaits). Over replicas the share is in their rights
// (TestTheShareHoldsWhenTheLanesWaitOnDifferentReplicas). A share above 0.9 counts as 0.9: interactive does not
// starve either. With a share of 0 batch waits until no interactive call does.
//
// In a model and lane who came first goes first (TestWhoCameFirstGoesFirst), and over the models of a provider
// too. A waiter keeps from later ones only what it waits for itself. A task's max_in_flight holds up that
// task alone (TestATaskAtItsMaximumHoldsUpNoOther).
//
// # Faults
//
// Without NATS the block is used up and nothing more is granted
// (TestACutReplicaGrantsNothingBlindlyAndGoesOnAfterwards). A write whose acknowledgement is lost is known by
// the beat in the record: corrections are neither lost nor made twice
// (TestAWriteOfUnknownFateIsFoundInTheRecord). A record that is lost or unreadable is written anew
// from the last one seen (TestALostOrUnreadableRecordStartsAnewFromWhatIsKnown).
package limit
