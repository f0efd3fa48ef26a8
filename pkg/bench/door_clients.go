package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// doorSpec says what the clients of a door do. It is the first line that they read.
type doorSpec struct {
	Door  string  `json:"door"`
	NATS  string  `json:"nats"`
	Run   string  `json:"run"`
	Bytes int     `json:"bytes"`
	Jobs  int     `json:"jobs"`
	Rate  float64 `json:"rate"`
	Crowd int     `json:"crowd"`
}

// clientNews is a line that the clients write. They go on to the crowd when they read a line.
type clientNews struct {
	Quiet    *WideSpread `json:"quiet,omitempty"` // bare publishes before the first post
	Done     int         `json:"done,omitempty"`  // posts so far
	Posted   *posted     `json:"posted,omitempty"`
	Gathered bool        `json:"gathered,omitempty"`
	Told     *toldAll    `json:"told,omitempty"`
	Error    string      `json:"error,omitempty"`
}

// posted is what the clients measured.
type posted struct {
	Seconds  float64    `json:"seconds"`
	Refused  int        `json:"refused"`
	Broken   int        `json:"broken"`
	Accepted WideSpread `json:"accepted"`
	Bare     WideSpread `json:"bare"`
}

// toldAll is what a crowd was told.
type toldAll struct {
	Own      int      `json:"own"`
	Wrong    int      `json:"wrong"`
	Refused  int      `json:"refused"`
	Examples []string `json:"examples"`
}

// clients are those of the door, in a process of their own.
type clients struct {
	cmd *exec.Cmd
	in  io.Writer
	out *json.Decoder
}

func startClients(ctx context.Context, command []string, spec *doorSpec) (*clients, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = []string{}
	cmd.Stderr = os.Stderr
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	err := errors.Join(inErr, outErr)
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start the door's clients: %w", err)
	}
	c := &clients{cmd: cmd, in: in, out: json.NewDecoder(out)}
	if err := json.NewEncoder(in).Encode(spec); err != nil {
		c.end()
		return nil, fmt.Errorf("tell the clients what to do: %w", err)
	}
	return c, nil
}

func (c *clients) end() {
	_ = c.cmd.Process.Kill() // it may have ended already
	_ = c.cmd.Wait()         // it was killed
}

// next reads what the clients say.
func (c *clients) next() (*clientNews, error) {
	n := &clientNews{}
	if err := c.out.Decode(n); err != nil {
		return nil, fmt.Errorf("the door's clients ended: %w", err)
	}
	if n.Error != "" {
		return nil, errors.New(n.Error)
	}
	return n, nil
}

// quiet returns how long bare publishes take before anybody posts; then the posts begin.
func (c *clients) quiet() (WideSpread, error) {
	n, err := c.next()
	if err == nil && n.Quiet == nil {
		err = errors.New("the clients do not say how long a bare publish takes")
	}
	if err != nil {
		return WideSpread{}, err
	}
	return *n.Quiet, nil
}

// posted returns when all requests are acknowledged.
func (c *clients) posted(note func(done int)) (*posted, error) {
	for {
		n, err := c.next()
		if err != nil || n.Posted != nil {
			return n.orNone().Posted, err
		}
		note(n.Done)
	}
}

func (n *clientNews) orNone() *clientNews {
	if n == nil {
		return &clientNews{}
	}
	return n
}

// gather lets the crowd come, and returns when all wait.
func (c *clients) gather() error {
	if _, err := fmt.Fprintln(c.in); err != nil {
		return fmt.Errorf("call the crowd: %w", err)
	}
	n, err := c.next()
	if err == nil && !n.Gathered {
		err = errors.New("the crowd did not come")
	}
	return err
}

// told returns when each client of the crowd has a result.
func (c *clients) told(d *DoorCrowd) error {
	n, err := c.next()
	if err != nil {
		return err
	}
	if n.Told == nil {
		return errors.New("the crowd does not say what it was told")
	}
	d.Own, d.Wrong, d.Refused, d.Examples = n.Told.Own, n.Told.Wrong, n.Told.Refused, n.Told.Examples
	return nil
}

// DoorClients are the clients that Doors runs as a process of its own: what they do is read from in, what they find
// is written to out.
func DoorClients(ctx context.Context, in io.Reader, out io.Writer) error {
	orders := bufio.NewReader(in)
	line, err := orders.ReadBytes('\n')
	spec := &doorSpec{}
	if err == nil {
		err = json.Unmarshal(line, spec)
	}
	if err != nil {
		return fmt.Errorf("read what to do: %w", err)
	}
	says := json.NewEncoder(out)
	if err := runClients(ctx, spec, orders, says); err != nil {
		return errors.Join(err, says.Encode(clientNews{Error: err.Error()}))
	}
	return nil
}

func runClients(ctx context.Context, spec *doorSpec, orders *bufio.Reader, says *json.Encoder) error {
	p, err := newPoster(spec)
	if err != nil {
		return err
	}
	defer p.close()
	quiet, err := p.bare.run(ctx, quietRate, min(spec.bareCount(), quietPublishes))
	if err != nil {
		return err
	}
	before := wide(quiet)
	if err := says.Encode(clientNews{Quiet: &before}); err != nil {
		return err
	}
	measured, err := p.post(ctx, func(done int) { _ = says.Encode(clientNews{Done: done}) }) // who does not listen has ended
	if err == nil {
		err = says.Encode(clientNews{Posted: measured})
	}
	if err != nil || spec.Crowd == 0 {
		return err
	}
	if _, err := orders.ReadString('\n'); err != nil {
		return fmt.Errorf("wait for the crowd's turn: %w", err)
	}
	told, err := p.crowd(ctx, func() error { return says.Encode(clientNews{Gathered: true}) })
	if err != nil {
		return err
	}
	return says.Encode(clientNews{Told: told})
}
