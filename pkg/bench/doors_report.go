package bench

// DoorsReport is what Doors measured.
type DoorsReport struct {
	Posts     int     `json:"posts"`
	BodyBytes int     `json:"text_bytes"`
	Rate      float64 `json:"rate"`
	Cores     int     `json:"cores"`
	ModelMS   float64 `json:"model_latency_ms"`
	Sync      string  `json:"sync"`
	// Stopped is the stage that did not run until all was posted; "": all ran.
	Stopped string `json:"stopped,omitempty"`

	// Seconds is how long the posts took in all; PerSecond says whether the rate was kept.
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"posts_per_second"`
	// Refused counts posts that had to be repeated: the door asked to come again, or, of Broken, closed the connection.
	Refused int `json:"refused"`
	Broken  int `json:"broken"`
	// Accepted is from a request's first byte to the last of its 202. Bare is that of a bare publish of the same body
	// to a stream of its own, by the same clients while they post; Quiet the same before the first post. Ratios are of
	// the percentiles.
	Accepted      WideSpread `json:"accepted_ms"`
	Bare          WideSpread `json:"bare_publish_ms"`
	RatioP50      float64    `json:"ratio_p50"`
	RatioP99      float64    `json:"ratio_p99"`
	Quiet         WideSpread `json:"quiet_publish_ms"`
	RatioQuietP50 float64    `json:"ratio_quiet_p50"`
	RatioQuietP99 float64    `json:"ratio_quiet_p99"`
	// CPUSeconds is what each process used while requests were posted.
	CPUSeconds map[string]float64 `json:"cpu_seconds"`
	// Memory is that of the door's process while requests are posted.
	Memory []DoorMemory `json:"door_memory"`
	// ResultsAfter is when the last result came, in seconds since the last 202, or since the stopped stage ran.
	ResultsAfter float64    `json:"results_after_seconds"`
	Clients      *DoorCrowd `json:"clients,omitempty"`
	Checks       Checks     `json:"checks"`
}

// WideSpread has the slowest as well.
type WideSpread struct {
	Spread
	Max float64 `json:"max"`
}

// times is how many times as long as those of other the percentiles are; 0: it has none.
func (s *WideSpread) times(other WideSpread) (p50, p99 float64) {
	if other.P50 == 0 || other.P99 == 0 {
		return 0, 0
	}
	return s.P50 / other.P50, s.P99 / other.P99
}

// DoorMemory is what a door's process takes, in bytes: its resident set, and of that the heap, with what waits to be
// collected, and the stacks.
type DoorMemory struct {
	At       string `json:"at"`
	Resident int64  `json:"rss_bytes"`
	Live     int64  `json:"heap_and_stack_bytes"`
}

// DoorCrowd is what a crowd of clients takes that wait in one door, and whether each was told its own result.
type DoorCrowd struct {
	Streams int `json:"streams"`
	Polls   int `json:"polls"`
	// Own were told their own job's result, Wrong another's or none.
	Own   int `json:"own"`
	Wrong int `json:"wrong"`
	// Refused counts polls that were asked to come again.
	Refused int `json:"refused"`
	// Consumers is by how many those of the streams of results and drafts grew.
	Consumers int `json:"consumers"`
	// Resident and Live are the growth of the door's process: its resident set; heap and stacks.
	Resident Growth   `json:"rss_bytes"`
	Live     Growth   `json:"heap_and_stack_bytes"`
	Examples []string `json:"examples,omitempty"`
}

// OK reports whether every request has one result, its own, and every client was told that.
func (r *DoorsReport) OK() bool {
	return r.Checks.OK() && (r.Clients == nil || r.Clients.Wrong == 0 && r.Clients.Own == r.Clients.Streams+r.Clients.Polls)
}

func (r *DoorsReport) take(quiet WideSpread, p *posted) {
	r.Seconds, r.Refused, r.Broken, r.Accepted, r.Bare, r.Quiet = p.Seconds, p.Refused, p.Broken, p.Accepted, p.Bare, quiet
	if p.Seconds > 0 {
		r.PerSecond = float64(r.Posts) / p.Seconds
	}
	r.RatioP50, r.RatioP99 = p.Accepted.times(p.Bare)
	r.RatioQuietP50, r.RatioQuietP99 = p.Accepted.times(quiet)
}
