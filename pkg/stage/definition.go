package stage

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

// Handler does a stage's one job on a job.
//
// It returns nil when the job may go on (to j.To, or to the next stage of the pipeline), or an error that
// carries a fate. It never acknowledges, publishes a hand-over, or counts: the runner does. It returns
// soon after ctx ends; ctx ends when the process gives the job up, not when the deadline passes.
// Handle is called concurrently, never twice at once for one message.
type Handler interface {
	Handle(ctx context.Context, j *job.Job) error
}

// Worker is a Handler that has something to do besides handling jobs. Run is called once, beside the
// pulling, and returns when ctx ends; an error stops the role.
type Worker interface {
	Run(ctx context.Context) error
}

// Puller is a Handler that has inboxes beside its Definition's, which depend on what is loaded: one a model,
// say. The runner makes their consumers when it starts.
type Puller interface {
	Inboxes() []Inbox
}

// Leaver is a Handler that is told when the process begins to leave: pulling has stopped, and what is held is
// waited for. Leave is called once.
type Leaver interface {
	Leave()
}

// Starter is a Handler that does its job at once, but cannot stand in for another process until it has caught
// up with something. Unready says what keeps it; "": nothing does.
type Starter interface {
	Unready() string
}

// Rescuer is a Handler of an inbox whose messages are no jobs (Inbox.Decode). When such a message panics or
// is poisonous, Rescue makes of it, without reading more than it must, a job that can be told of: nil, and
// the run goes to fallback. An error with fate Elsewhere: there is nobody to tell, the message is kept raw.
// Without a Rescuer every such message is kept raw.
type Rescuer interface {
	Rescue(ctx context.Context, j *job.Job) error
}

// Definition is all that the pipeline knows of a stage.
type Definition struct {
	// Name is the stage's one name: folder, subject token, consumer, NATS user, label.
	Name string
	// Inboxes are where it pulls from; none: Lanes.
	Inboxes []Inbox
	// SendsOn names the stages, besides the next in the pipeline, that a handler may set in job.To.
	SendsOn []string
	// Aside is true for a stage that is not on the main line: nil without job.To is a fault there.
	Aside bool
	// Slots is how many jobs one process handles at once; 0: DefaultSlots. Inboxes may say their own.
	Slots int
	// FinishesLate is true for a stage that does its job also after the deadline: what it does is cheap,
	// or is itself the answer to a missed deadline. Other stages' expired jobs go to fallback unseen.
	FinishesLate bool
	// ConfirmsAcks is true where a lost ack would be paid for: acks are then confirmed by the broker.
	ConfirmsAcks bool
	// New makes the handler, before anything is pulled.
	New func(*Env) (Handler, error)
	// MadeOf is nil for a stage whose handler lives as long as the process. Else it says what the handler is made of;
	// when that changes, the process makes another one, which takes over while this one finishes what it holds.
	MadeOf func(*Env) string
	// Check says why no handler could be made; nil: nothing can be said beforehand.
	Check func(*Env) error
}

// DefaultHeldBytes bounds what one inbox holds in a process.
const DefaultHeldBytes = 24 << 20

// DefaultSlots is how many jobs a stage handles at once in one process.
const DefaultSlots = 128

// Inbox is one consumer of a stage.
type Inbox struct {
	// Stream and Subject: what is pulled. Consumer is its durable name.
	Stream, Subject, Consumer string
	// Slots is how many of its messages are handled at once; 0: the stage's.
	Slots int
	// HeldBytes bounds what its messages take in one process; 0: DefaultHeldBytes.
	HeldBytes int
	// Decode makes a job of a message that is not a job's JSON. nil: the message is a job.
	Decode func(data []byte, a job.Arrival) (*job.Job, error)
	// Gate, when set, says how many more messages may be taken now. nil: as many as there are slots.
	Gate func(env *Env) Gate
}

// batchSlots is how many batch jobs a stage handles at once in one process: few, so that however many wait,
// an interactive job finds the machine nearly free. What a stage does for a job takes a millisecond or less;
// the stage that calls models has slots of its own.
const batchSlots = 8

// Lanes are a stage's usual inboxes: one a lane.
func Lanes(name string, slots int) []Inbox {
	in := func(lane string, slots int) Inbox {
		return Inbox{
			Stream: broker.StageStream(name), Subject: broker.StageSubject(name, lane),
			Consumer: broker.StageConsumer(name, lane), Slots: slots,
		}
	}
	return []Inbox{in(job.Interactive, slots), in(job.Batch, min(slots, batchSlots))}
}

// Gate holds an inbox back. Open is asked before each pull request and grants at most n messages beside the
// out that are held, or asked for, already. Returned takes back what was granted and not delivered, or handed
// back.
type Gate interface {
	Open(n, out int) int
	Returned(n int)
}

// Env is what a handler may use.
type Env struct {
	Conn *broker.Conn
	// Tasks are those that this process begins with; their models and providers are what it calls.
	Tasks *task.Set
	// Versions has the tasks as they change while it runs; nil: they do not. Read it by Book.
	Versions *task.Book
	Log      zerolog.Logger
	Metrics  prometheus.Registerer
	// Getenv reads what providers' *_env name; main passes it in.
	Getenv func(string) string
	// Inboxes are the streams of all stages' inboxes; the runner fills it in.
	Inboxes []string
	// Limits hold admission back.
	Limits Limits
	// SimulatorURL is where providers of kind simulated answer; "": they are refused.
	SimulatorURL string
}

// Book has the tasks by the version that a job names.
func (e *Env) Book() *task.Book {
	if e.Versions != nil {
		return e.Versions
	}
	return task.NewBook(e.Tasks)
}

// Limits bound the admitted but unfinished jobs of the whole pipeline.
type Limits struct {
	// Interactive and Batch are counts of jobs. Batch is the lower one and never zero.
	Interactive, Batch int
	// Bytes bounds what those jobs take in the inboxes.
	Bytes int64
	// Refresh is how often the counts are read.
	Refresh time.Duration
}

// DefaultLimits suit one machine.
func DefaultLimits() Limits {
	return Limits{Interactive: 20_000, Batch: 10_000, Bytes: 512 << 20, Refresh: 500 * time.Millisecond}
}
