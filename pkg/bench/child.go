package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"

	"spillway/pkg/fakellm"
)

// child is a simulated provider in a process of its own, so that what it takes is not counted as this one's.
type child struct {
	cmd *exec.Cmd
	url string
	// control is the URL under which it is steered.
	control string
}

// startChild returns when the provider answers. It ends with ctx, or by end.
func startChild(ctx context.Context, command []string) (*child, error) {
	if len(command) == 0 {
		return nil, errors.New("the calls need a provider in a process of its own: name its command")
	}
	c := &child{cmd: exec.CommandContext(ctx, command[0], command[1:]...)}
	c.cmd.Env = []string{} // no variable changes how it answers
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start the simulated provider: %w", err)
	}
	var ready struct {
		URL     string `json:"base_url"`
		Control string `json:"control"`
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &ready)
	}
	if err != nil {
		c.end()
		return nil, errors.Join(context.Cause(ctx), fmt.Errorf("the simulated provider did not get ready: %w", err))
	}
	c.url, c.control = ready.URL, ready.Control
	return c, nil
}

// counts asks the provider what it counted.
func (c *child) counts(ctx context.Context) (fakellm.Counts, error) {
	var counts fakellm.Counts
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.control+"counts", nil)
	if err != nil {
		return counts, fmt.Errorf("ask the provider for its counts: %w", err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return counts, fmt.Errorf("ask the provider for its counts: %w", err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&counts); err != nil {
		return counts, fmt.Errorf("read the provider's counts: %w", err)
	}
	return counts, nil
}

// end kills the process, which holds nothing that could be lost, and waits for it.
func (c *child) end() {
	_ = c.cmd.Process.Kill() // it may have ended already
	_ = c.cmd.Wait()         // it was killed
}
