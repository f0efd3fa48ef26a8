package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// doorProcess is a door in a process of its own, so that its memory is nobody else's.
type doorProcess struct {
	cmd     *exec.Cmd
	address string
	reading sync.WaitGroup
}

// startDoorProcess returns when the door says where it is. It ends with ctx, or by end.
func startDoorProcess(ctx context.Context, command []string) (*doorProcess, error) {
	d := &doorProcess{cmd: exec.CommandContext(ctx, command[0], command[1:]...)}
	d.cmd.Env = []string{} // no variable changes what is measured
	log, err := d.cmd.StderrPipe()
	if err == nil {
		err = d.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start the door: %w", err)
	}
	lines := bufio.NewScanner(log)
	var said []string
	for d.address == "" && lines.Scan() {
		var line struct {
			HTTP string `json:"http"`
		}
		_ = json.Unmarshal(lines.Bytes(), &line) // what is no JSON is no address either
		d.address = line.HTTP
		said = append(said, lines.Text())
	}
	d.reading.Go(func() {
		for lines.Scan() {
			fmt.Fprintln(os.Stderr, lines.Text())
		}
		_, _ = io.Copy(io.Discard, log) // behind a line that is too long
	})
	if d.address == "" {
		d.end()
		return nil, errors.Join(context.Cause(ctx), fmt.Errorf("the door did not get ready: %s", strings.Join(said, "\n")))
	}
	return d, nil
}

// end kills the process: nobody waits at the door any more.
func (d *doorProcess) end() {
	_ = d.cmd.Process.Kill() // it may have ended already
	d.reading.Wait()
	_ = d.cmd.Wait() // it was killed
}

// lookEvery is how often the door's memory is looked at.
const lookEvery = 500 * time.Millisecond

// watch looks at the door's memory until the returned function is called, which tells how it was at the start, in the
// middle, at the end, and at its worst.
func (d *doorProcess) watch(ctx context.Context) func() []DoorMemory {
	var seen []footprint
	look := func() {
		if f, err := d.footprint(ctx); err == nil {
			seen = append(seen, f)
		}
	}
	look()
	stop := repeat(lookEvery, look)
	return func() []DoorMemory {
		stop()
		look()
		if len(seen) == 0 {
			return nil
		}
		peak := seen[0]
		for _, f := range seen {
			peak = footprint{resident: max(peak.resident, f.resident), live: max(peak.live, f.live)}
		}
		var all []DoorMemory
		for _, m := range []struct {
			at string
			f  footprint
		}{{"start", seen[0]}, {"middle", seen[len(seen)/2]}, {"end", seen[len(seen)-1]}, {"peak", peak}} {
			all = append(all, DoorMemory{m.at, m.f.resident, m.f.live})
		}
		return all
	}
}

// footprint reads the door's metrics.
func (d *doorProcess) footprint(ctx context.Context) (footprint, error) {
	var f footprint
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.address+"/metrics", nil)
	if err != nil {
		return f, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return f, fmt.Errorf("read the door's metrics: %w", err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, text, _ := strings.Cut(lines.Text(), " ")
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			continue // HELP, TYPE
		}
		switch name {
		case "process_resident_memory_bytes":
			f.resident = int64(value)
		case "go_memstats_heap_alloc_bytes", "go_memstats_stack_inuse_bytes":
			f.live += int64(value)
		}
	}
	if f.live == 0 {
		return f, errors.New("the door's metrics do not tell its memory")
	}
	return f, nil
}
