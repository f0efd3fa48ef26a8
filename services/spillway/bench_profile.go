package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"

	"spillway/pkg/bench"
)

// profiles are files to be written of the pipeline's burst; "" is none.
type profiles struct {
	cpu, allocs, mutex string
	err                error
}

// around begins the profiles when the pipeline's burst begins. Allocations are those since the process
// began; the burst's are the difference that `go tool pprof -base` makes with FILE.base.
func (p *profiles) around(phase string) (end func()) {
	if phase != bench.PhasePipeline {
		return func() {}
	}
	stop := func() error { return nil }
	if p.cpu != "" {
		stop = p.startCPU()
	}
	if p.mutex != "" {
		const each = 1
		before := runtime.SetMutexProfileFraction(each)
		cpu := stop
		stop = func() error {
			err := errors.Join(cpu(), writeProfile("mutex", p.mutex))
			runtime.SetMutexProfileFraction(before)
			return err
		}
	}
	if p.allocs != "" {
		p.err = errors.Join(p.err, writeProfile("allocs", p.allocs+".base"))
	}
	return func() {
		p.err = errors.Join(p.err, stop())
		if p.allocs != "" {
			p.err = errors.Join(p.err, writeProfile("allocs", p.allocs))
		}
	}
}

func (p *profiles) startCPU() (stop func() error) {
	f, err := os.Create(p.cpu)
	if err == nil {
		err = pprof.StartCPUProfile(f)
	}
	if err != nil {
		p.err = errors.Join(p.err, fmt.Errorf("begin the CPU profile: %w", err))
		return func() error { return nil }
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}
}

func writeProfile(name, path string) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write the %s profile: %w", name, err)
	}
	return errors.Join(pprof.Lookup(name).WriteTo(f, 0), f.Close())
}
