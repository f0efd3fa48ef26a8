package bench

// Report is what a run measured. A part that was left out is nil.
type Report struct {
	Jobs        int     `json:"jobs"`
	PromptBytes int     `json:"prompt_bytes"`
	Window      int     `json:"window"`
	Task        string  `json:"task"`
	Cores       int     `json:"cores"`
	ModelMS     float64 `json:"model_latency_ms"`
	// Server is embedded, or the address of a running one; Sync is the embedded one's: always or a duration.
	Server string `json:"server"`
	Sync   string `json:"sync,omitempty"`

	// Relay makes no call, RelayWithCall the same as the pipeline.
	Relay         *Throughput `json:"relay,omitempty"`
	RelayWithCall *Throughput `json:"relay_with_call,omitempty"`
	Pipeline      *Throughput `json:"pipeline"`
	// RatioJobs is the pipeline's jobs/s divided by those of the relay with a call; RatioCPU the same of the
	// CPU time, which is measured on an embedded server only. 0: not measured.
	RatioJobs float64 `json:"ratio_jobs,omitempty"`
	RatioCPU  float64 `json:"ratio_cpu,omitempty"`

	Checks  Checks   `json:"checks"`
	Memory  *Memory  `json:"memory,omitempty"`
	Storage *Storage `json:"storage,omitempty"`

	// Rate is that of the latencies, in jobs a second.
	Rate            float64 `json:"rate,omitempty"`
	RelayLatency    *Spread `json:"relay_added_latency_ms,omitempty"`
	PipelineLatency *Spread `json:"pipeline_added_latency_ms,omitempty"`
}

// Throughput is how fast a burst of jobs was done, from the first publish to the last result.
type Throughput struct {
	Seconds       float64 `json:"seconds"`
	JobsPerSecond float64 `json:"jobs_per_second"`
	// CPUPer1000 is the process's CPU time, user and system, in seconds for 1,000 jobs; 0: not this process's.
	CPUPer1000 float64 `json:"cpu_seconds_per_1000,omitempty"`
	// Redeliveries are messages that a consumer delivered again.
	Redeliveries int `json:"redeliveries"`
	// Refused counts publishes that found the requests' stream full and were repeated.
	Refused int `json:"refused,omitempty"`
}

// Checks are the pipeline's answers, held against what was asked, over all rounds.
type Checks struct {
	Jobs int `json:"jobs"`
	// Results were heard; Missing jobs have none; Repeated ones have more than one.
	Results  int `json:"results"`
	Missing  int `json:"missing"`
	Repeated int `json:"repeated"`
	// Failed did not succeed; Foreign carry another job's answer.
	Failed  int `json:"failed"`
	Foreign int `json:"foreign"`
	// OwnBy says how an answer is known to be the job's own: nonce, or metadata where the models are real.
	OwnBy string `json:"own_by"`
	// Calls is the provider's count, or the results' where the provider is not this process's. PaidTwice are
	// the calls beyond the first of an input.
	Calls     int `json:"calls"`
	PaidTwice int `json:"paid_twice"`
	// Examples tell the first few failures.
	Examples []string `json:"examples,omitempty"`
}

// OK reports whether every job has exactly one result, and it is good and its own.
func (c *Checks) OK() bool {
	return c.Results == c.Jobs && c.Missing+c.Repeated+c.Failed+c.Foreign == 0
}

// Memory is the peak of this process during the pipeline's burst; 0: the system does not tell.
type Memory struct {
	PeakRSSBytes int64 `json:"peak_rss_bytes"`
	// HeapPeakBytes are Go's live and not yet swept objects, sampled.
	HeapPeakBytes int64 `json:"heap_peak_bytes"`
	// ResetRSS is false where the peak is that since the process began.
	ResetRSS bool `json:"rss_since_round_began"`
}

// Storage is what a job leaves, and what it took to get there, in bytes.
type Storage struct {
	// Kept is what the streams hold when the jobs are done, by stream.
	Kept      map[string]float64 `json:"kept_per_job"`
	KeptTotal float64            `json:"kept_per_job_total"`
	// Published is all that the pipeline's own connection sent, headers and acks included; 0: not this process's.
	Published float64 `json:"published_per_job,omitempty"`
}

// Spread are percentiles by nearest rank, in milliseconds.
type Spread struct {
	Jobs int     `json:"jobs"`
	P50  float64 `json:"p50"`
	P95  float64 `json:"p95"`
	P99  float64 `json:"p99"`
}

// InFlightReport is what InFlight measured.
type InFlightReport struct {
	Calls       int     `json:"calls_at_once"`
	PromptBytes int     `json:"prompt_bytes"`
	Window      int     `json:"window"`
	Cores       int     `json:"cores"`
	ModelMS     float64 `json:"model_latency_ms"`
	Sync        string  `json:"sync"`

	Bare     AtOnce `json:"bare_client"`
	Pipeline AtOnce `json:"pipeline"`
	// Ratio is the pipeline's seconds divided by the bare client's.
	Ratio float64 `json:"ratio_seconds"`
	// Redeliveries and Refused are those of Throughput.
	Redeliveries int    `json:"redeliveries"`
	Refused      int    `json:"refused,omitempty"`
	Checks       Checks `json:"checks"`
}

// AtOnce is a crowd of calls.
type AtOnce struct {
	// Seconds pass from the first publish to the last result, or from the first call to the last answer's end.
	Seconds float64 `json:"seconds"`
	// MaxInFlight is the most calls that the provider saw at once.
	MaxInFlight int `json:"max_in_flight"`
	// Resident is the resident set of this process, which holds all but the provider; nil: the system does not
	// tell. Live is what the last collection found in use, and the stacks of goroutines: what the calls
	// themselves hold, where the resident set has what waits to be collected as well, about as much again.
	Resident *Growth `json:"resident_bytes,omitempty"`
	Live     Growth  `json:"live_bytes"`
}

// Growth is by how much this process grew while the calls were under way, in bytes. The peak is sampled, and
// is that of the whole time: what publishing and answering took at their worst is in it.
type Growth struct {
	Before  int64   `json:"before"`
	Peak    int64   `json:"peak"`
	PerCall float64 `json:"per_call"`
}

// FloodReport is what Flood measured. Latencies are from publish to result, the model's own included.
type FloodReport struct {
	PromptBytes int     `json:"prompt_bytes"`
	Window      int     `json:"window"`
	Cores       int     `json:"cores"`
	ModelMS     float64 `json:"model_latency_ms"`
	Sync        string  `json:"sync"`
	Rate        float64 `json:"rate"`

	Alone Spread `json:"alone_latency_ms"`
	// Begins starts at the flood's first answer, while more of it is published; Steady some seconds after its
	// last publish.
	Begins FloodRound `json:"flood_begins"`
	Steady FloodRound `json:"flood_steady"`
	Batch  FloodBatch `json:"batch"`
	// Checks are those of the interactive jobs, over all rounds.
	Checks Checks `json:"checks"`
}

// FloodRound is interactive jobs that were measured during a flood.
type FloodRound struct {
	Latency Spread `json:"latency_ms"`
	// MoreP50 and MoreP99 are the differences to those alone, in milliseconds.
	MoreP50 float64 `json:"more_p50_ms"`
	MoreP99 float64 `json:"more_p99_ms"`
	// BatchAnswered are the flood's results meanwhile, BatchWaiting its requests without one at the end. With 0
	// waiting the flood was over too early.
	BatchAnswered  int     `json:"batch_answered"`
	BatchPerSecond float64 `json:"batch_per_second"`
	BatchWaiting   int     `json:"batch_waiting"`
}

// FloodBatch is what became of the flood until the measurement ended; the fields are those of Checks and
// Throughput.
type FloodBatch struct {
	Requests  int      `json:"requests"`
	Answered  int      `json:"answered"`
	Refused   int      `json:"refused,omitempty"`
	Repeated  int      `json:"repeated"`
	Failed    int      `json:"failed"`
	Foreign   int      `json:"foreign"`
	PaidTwice int      `json:"paid_twice"`
	Examples  []string `json:"examples,omitempty"`
}

// OK reports whether every interactive job has exactly one result, good and its own, and what there is of the
// flood's is so too.
func (r *FloodReport) OK() bool {
	return r.Checks.OK() && r.Batch.Repeated+r.Batch.Failed+r.Batch.Foreign == 0
}
