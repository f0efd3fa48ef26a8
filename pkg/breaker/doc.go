// Package breaker holds the circuit breakers that all replicas share: one for each model, and one for each
// provider, over all of its models.
//
// The truth is a record in the bucket llm_breakers, one a circuit, which replicas change only by naming the
// revision that they change. No record: closed.
//
//	           votes of one replica, a verdict that opens at once, an operator
//	closed ────────────────────────────────────────────────────────────────────▶ open
//	  ▲                                                                         │  ▲
//	  │                        until is over: the first Enter of all replicas   │  │ the probe failed:
//	  │                        that stores itself as the prober, with a lease   │  │   until = now + half_open_after
//	  │                                                                         │  │ it says nothing:
//	  │        the last of `probes` that passed in a row                        ▼  │   until = its start + half_open_after
//	  └──────────────────────────────────────────────────────────────────── half open
//	                                                                          │   ▲
//	                                                                          └───┘ one of several passed: the next
//	                                                                                may begin; or the lease is over:
//	                                                                                the prober died, another takes over
//
// What holds, and the tests that pin it:
//
//   - Votes. Each replica counts for itself, with two circuit breakers of failsafe-go, and only ever votes to
//     open: TestFiveFailuresInARowOpenTheCircuitForAllReplicasWithinASecond, TestAShareOfFailuresOpensTheCircuit.
//     A provider's circuit has no votes, only verdicts: TestAVerdictOpensWhatItNamesAtOnce,
//     TestThousandFailuresOfAProviderDoNotOpenItUnlessOneSaysSo.
//   - A verdict is about the record under which its call began. Every change, also by hand, makes older calls
//     mute and forgets the votes: TestAVerdictFromBeforeAChangeHasNoVote, TestFailuresFromBeforeAChangeAreForgotten.
//   - One probe. In a half-open period at most one call passes over all replicas, however it ends:
//     TestOneOfAllReplicasCallsProbesOncePeriodAfterPeriod, TestProbesAreAPeriodApartByTheWallClock,
//     TestAProbeWithoutAVerdictDelaysTheNextByNoMoreThanAPeriod. With probes > 1 they follow each other, one at a
//     time: TestAsManyProbesAsAskedForMustPassOneAfterTheOther.
//   - Leases. A prober that died is replaced after its lease, and what it says later changes nothing:
//     TestAProberThatDiedIsReplacedAfterItsLeaseAndNotBefore,
//     TestALateVerdictOfALostLeaseClosesNothingEvenIfItsReplicaSawNoneOfIt. A probe whose storing was not
//     acknowledged is given back: TestAProbeThatMayHaveBegunIsGivenBack.
//   - Two circuits. A call passes its provider's circuit and its model's; it may probe both, or neither:
//     TestAProbeMayHoldBothCircuits, TestNoProbeOfAProviderBeginsThroughAModelThatIsOpen,
//     TestAProbeThatFindsTheProviderBrokenOpensItAndGoesBackToOpen.
//   - Clocks. The time of another machine is never compared with this one's: a record that was written just now
//     ends as far ahead here as it did there. One that was found, at the start or after a lost connection, ends
//     when it says, but no later than that: TestClocksThatDifferDoNotMatter.
//   - Outages. After each lost connection the first Enter asks the leader before it answers:
//     TestAReplicaThatWasCutOffPassesNoCallWhenItIsBack, TestAnOpenCircuitOutlivesAllProcesses. Without the broker
//     a replica goes by what it knows: closed passes, open does not, and nobody probes. Its own votes open the
//     circuit for itself, and are stored later unless the record has moved: TestAReplicaCutOffVotesForItselfAndSaysSoLater,
//     TestAVoteFromAnOutageIsDroppedIfTheRecordMovedMeanwhile, TestTheVerdictOfAProbeIsStoredAfterAnOutage.
//   - Cost. A call through closed circuits asks nobody: TestAPassThroughAClosedBreakerAllocatesNothingElse.
//
// Not promised: a replica that has lost the broker without noticing (its packets vanish) goes by what it knows
// until the connection's pings find out, which takes up to a minute.
package breaker
