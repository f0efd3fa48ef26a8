package main

import (
	"testing"
	"time"

	"golang.org/x/time/rate"
)

func TestDurationsAreWrittenForPeople(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0s": 0, "143ms": 143 * time.Millisecond, "1.84s": 1840 * time.Millisecond, "12s": 12*time.Second + 300*time.Millisecond,
		"2m10s": 130 * time.Second, "61m": 61 * time.Minute, "3h": 3 * time.Hour, "30d": 720 * time.Hour, "-5s": -5 * time.Second,
	} {
		if got := span(d); got != want {
			t.Errorf("%v is written %s, not %s", d, got, want)
		}
	}
	for want, d := range map[string]time.Duration{"24h": 24 * time.Hour, "10m": 10 * time.Minute, "1m30s": 90 * time.Second, "1h0m5s": time.Hour + 5*time.Second, "0s": 0} {
		if got := short(d); got != want {
			t.Errorf("%v is written %s, not %s", d, got, want)
		}
	}
}

func TestTextFromOutsideCanNotSteerATerminal(t *testing.T) {
	for text, want := range map[string]string{
		"plain, Größe, 漢字\n\ttab": "plain, Größe, 漢字\n\ttab",
		"\x1b[2J":                 `\u001b[2J`,
		"\u009b31m":               `\u009b31m`,
		"a\u202eb":                `a\u202eb`,
		"\r":                      `\u000d`,
	} {
		if got := harmless(text); got != want {
			t.Errorf("%q is shown as %q, not %q", text, got, want)
		}
	}
	if got := oneLine("a\r\nb\tc\nd"); got != "a b c d" {
		t.Errorf("%q", got)
	}
}

func TestRatesAreReadASecondOrAMinute(t *testing.T) {
	for text, want := range map[string]rate.Limit{"20/s": 20, "120/m": 2, "30/min": 0.5, "5": 5, "0": rate.Inf} {
		var r orderRate
		if err := r.UnmarshalText([]byte(text)); err != nil || r.Limit != want {
			t.Errorf("%s is read as %v: %v", text, r.Limit, err)
		}
	}
	for _, text := range []string{"", "fast", "1/h", "-1/s", "NaN"} {
		var r orderRate
		if r.UnmarshalText([]byte(text)) == nil {
			t.Errorf("%q is taken for %v", text, r.Limit)
		}
	}
}
