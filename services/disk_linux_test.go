package services_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

func mountDisk(dir, size string) error { return syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size) }

// withDisk gives a server a disk of its own, of a size as tmpfs has it, which is gone with the process.
func withDisk(size string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		cmd.Env = append(cmd.Env, childDiskEnv+"="+size)
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
	}
}

// fill writes until the disk of the server is full, and returns what gives the space back.
func (s *natsProcess) fill() (free func()) {
	s.t.Helper()
	path := filepath.Join("/proc", fmt.Sprint(s.child.cmd.Process.Pid), "root", s.store, "ballast")
	f, err := os.Create(path)
	if err != nil {
		s.t.Fatal(err)
	}
	for block := make([]byte, 4<<10); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		s.t.Fatalf("fill the disk: %v", err)
	}
	_ = f.Close() // all but its last page is there
	return func() { _ = os.Remove(path) }
}

func TestAFullDiskIsSaidAndHealsAndLosesNothing(t *testing.T) {
	t.Parallel()
	probe := exec.CommandContext(t.Context(), "/bin/true")
	withDisk("1m")(probe)
	if err := probe.Run(); err != nil {
		t.Skipf("LEFT OUT: a process may not have a disk of its own here (user namespaces): %v", err)
	}
	s := newServer(t)
	s.prepare = withDisk("64m")
	s.start()
	r := setup(t, s.url())
	w := watch(t, r.url)
	r.first.SetLatency(fakellm.Latency{FirstToken: 800 * time.Millisecond})
	r.run()
	acknowledged := map[string]string{}
	for n := range 60 {
		text := fmt.Sprintf("before, %d", n)
		acknowledged[r.ask([]string{job.Interactive, job.Batch}[n%2], "toy", text)] = text
	}
	brokertest.Eventually(t, 10*time.Second, "calls are under way", func() bool { return r.first.Counts().InFlight > 20 })
	free := s.fill()
	n := 0
	try := func() bool {
		n++
		text := fmt.Sprintf("meanwhile, %d", n)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		id, err := r.client.Publish(ctx, job.Interactive, "toy", "", fmt.Appendf(nil, `{"input":{"text":%q},"metadata":%q,"deadline":"5m"}`, text, strings.Repeat("x", 3000)))
		if err == nil {
			acknowledged[id] = text
		}
		return err == nil
	}
	brokertest.Eventually(t, 30*time.Second, "a publish is not acknowledged", func() bool { return !try() })
	receipt, err := r.client.Submit(t.Context(), "toy", []byte(`{"input":{"text":"door"}}`))
	if err != nil || receipt.Error == nil || receipt.Error.Code != fate.Unavailable && receipt.Error.Code != fate.DoorFull {
		t.Errorf("the door says %+v, %v", receipt, err)
	}
	free()
	brokertest.Eventually(t, 20*time.Second, "requests are acknowledged again", try)
	for id, text := range acknowledged {
		if result := r.result(id, 1); result.Source == job.FromModel && !answersTo(result, text) {
			t.Errorf("%s has another's answer: %s", id, result.Output)
		}
	}
	// Not that the streams are empty: the server keeps a message whose ack it could not write, and delivers it to nobody.
	x := &doomed{ordeal: &ordeal{rig: r}}
	for _, name := range r.stageNames() {
		brokertest.Eventually(t, 60*time.Second, "nothing waits at "+name, func() bool { return x.waitAt(name) == 0 })
	}
	for id := range acknowledged {
		if core, stored := w.heardOf(id, 1); core > 1 || stored > 1 {
			t.Errorf("%s: %d messages on its subject, %d from the consumer", id, core, stored)
		}
	}
	t.Logf("%d requests were acknowledged", len(acknowledged))
}
