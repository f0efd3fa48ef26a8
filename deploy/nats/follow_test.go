package nats_test

import (
	"testing"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/bundle"
)

// What ingest stores, or an operator, is what every process works with.
func TestEveryProcessFollowsWhichVersionsAreLiveAsItsUser(t *testing.T) {
	r := setup(t)
	r.run(r.connect)
	here := r.tasks().Simulated().Tasks["toy"] // another version than the one that they began with
	push := func(user string) {
		t.Helper()
		_, live, err := bundle.NewStore(r.connect(user)).Push(t.Context(), bundle.Push{Bundle: bundle.Of(here), By: user, How: bundle.HowPush})
		if err != nil || !live {
			t.Fatalf("%s makes a version live: %t, %v", user, live, err)
		}
	}
	areLive := func(version string) {
		t.Helper()
		brokertest.Eventually(t, 20*time.Second, "all have version "+version, func() bool {
			for _, book := range r.books {
				live := book.Live().Tasks["toy"]
				if live == nil && version != "" || live != nil && live.Version != version {
					return false
				}
			}
			return len(r.books) == len(stages())
		})
	}
	push(broker.Ingest)
	areLive(here.Version)
	duty := bundle.NewStore(r.connect(operatorUser))
	if err := duty.Remove(t.Context(), "toy", operatorUser); err != nil {
		t.Fatal(err)
	}
	areLive("")
	push(operatorUser)
	areLive(here.Version)
	if _, err := duty.Records(t.Context()); err != nil {
		t.Error(err)
	}
	for _, refusal := range r.refusals(append(stages(), operatorUser)...) {
		t.Error(refusal)
	}
}
