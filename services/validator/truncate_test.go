package validator

import (
	"strings"
	"testing"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

func TestACutAnswerIsAskedForOnceMoreWithTwiceTheTokens(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		set  func(*task.Task, *job.Job)
		want int
	}{
		"the job's limit":                 {func(*task.Task, *job.Job) {}, 600},
		"at most what the model can say":  {func(_ *task.Task, j *job.Job) { j.MaxOutputTokens = 700 }, 1000},
		"at most what the window leaves":  {func(_ *task.Task, j *job.Job) { j.PromptTokens = 7500 }, 500},
		"the task's limit":                {func(tk *task.Task, j *job.Job) { j.MaxOutputTokens, tk.Parameters.MaxOutputTokens = 0, 80 }, 160},
		"the provider's own limit":        {func(_ *task.Task, j *job.Job) { j.MaxOutputTokens = 0 }, 80},
		"a model that is not loaded here": {func(_ *task.Task, j *job.Job) { j.Model = "elsewhere" }, 600},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tk, j := taskOf(t, onboarding), answered(`{"intent":"sup`, "length")
			row.set(tk, j)
			if err := handle(t, handlerOf(t, tk), j); err != nil {
				t.Fatal(err)
			}
			if j.MaxOutputTokens != row.want || !j.Raised || j.To != broker.Inference || j.Answer != nil || j.Corrections != 0 {
				t.Errorf("%d tokens, want %d: %+v", j.MaxOutputTokens, row.want, j)
			}
			if e := lastVerdict(t, j); e.Outcome != Truncated {
				t.Errorf("%+v", e)
			}
		})
	}
}

func TestACutAnswerIsDivertedWhenItsLimitMayNotBeRaised(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		set  func(*task.Task, *job.Job)
		says string
	}{
		"the task diverts":         {func(tk *task.Task, _ *job.Job) { tk.Correction.OnTruncation = "divert" }, "does not raise"},
		"raised before":            {func(_ *task.Task, j *job.Job) { j.Raised = true }, "before"},
		"all calls spent":          {func(_ *task.Task, j *job.Job) { j.Calls = 6 }, "6 calls"},
		"no time":                  {func(_ *task.Task, j *job.Job) { j.Deadline = now.Add(time.Second) }, "no time"},
		"the model's most already": {func(_ *task.Task, j *job.Job) { j.MaxOutputTokens = 1000 }, "no more"},
		"the window is full":       {func(_ *task.Task, j *job.Job) { j.PromptTokens = 7700 }, "no more"},
		"nothing is known":         {func(_ *task.Task, j *job.Job) { j.MaxOutputTokens, j.History = 0, nil }, "no more"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tk, j := taskOf(t, onboarding), answered(`{"intent":"sup`, "length")
			row.set(tk, j)
			err := handle(t, handlerOf(t, tk), j)
			if err == nil || err.Fate != fate.Divert || err.Code != fate.OutputTruncated || !strings.Contains(err.Message, row.says) {
				t.Errorf("%v", err)
			}
			if j.To != "" || j.Answer == nil {
				t.Errorf("%+v", j)
			}
		})
	}
}

func TestACutCorrectionKeepsItsDialogueWhenTheLimitIsRaised(t *testing.T) {
	t.Parallel()
	h := handlerOf(t, taskOf(t, onboarding))
	j := answered(offSchema, "stop")
	handle(t, h, j)
	dialogue := j.Correction
	j.Answer = &job.Answer{Content: `{"intent":"sup`, FinishReason: "length"}
	if err := handle(t, h, j); err != nil || len(j.Correction) != 2 || j.Correction[0] != dialogue[0] || !j.Raised {
		t.Errorf("%v: %+v", err, j)
	}
}
