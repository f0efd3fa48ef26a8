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
