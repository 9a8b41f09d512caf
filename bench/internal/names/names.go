// Package names measures the registry: how long it takes to find, to announce
// and to notice an instance among many.
package names

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/ipcgen/ipcgen/bench/internal/measure"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// Costs are those of one number of instances; medians.
type Costs struct {
	Instances         int
	Lookup, Missing   time.Duration // of a name that there is, and of one that is not
	Register, Close   time.Duration
	Appear, Disappear time.Duration // until a watcher is told
	List              time.Duration
}

// Measure fills a registry with so many instances, and repeats each operation so
// often.
func Measure(instances, repeats int, progress func(string)) (c *Costs, err error) {
	dir, err := os.MkdirTemp("", "names")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	r, err := registry.Open(dir, nil)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	progress(fmt.Sprintf("registry of %d instances", instances))
	for i := range instances {
		reg, err := r.Register(registry.Record{Name: nameOf(i), Service: "bench"})
		if err != nil {
			return nil, err
		}
		defer reg.Close()
	}
	c = &Costs{Instances: instances}
	for _, op := range []struct {
		to    *time.Duration
		batch int // so many are timed at once
		do    func(i int) error
	}{
		{&c.Lookup, 32, func(i int) error {
			_, err := r.Lookup(nameOf(i * 7919 % instances))
			return err
		}},
		{&c.Missing, 32, func(i int) error {
			if _, err := r.Lookup("missing"); err == nil {
				return fmt.Errorf("a name that nobody registered is found")
			}
			return nil
		}},
		{&c.List, 1, func(int) error { _, err := r.List(""); return err }},
	} {
		if *op.to, err = measure.Typical(repeats, op.batch, op.do); err != nil {
			return nil, err
		}
	}
	return c, c.watch(r, repeats)
}

func nameOf(i int) string { return fmt.Sprintf("bench.instance.%d", i) }

// watch measures registrations and what a watcher hears of them.
func (c *Costs) watch(r *registry.Registry, repeats int) error {
	const name = "watched.one"
	first, err := r.Register(registry.Record{Name: "watched.first"})
	if err != nil {
		return err
	}
	defer first.Close()
	ctx, cancel := context.WithCancel(context.Background())
	told := make(chan time.Time)
	failed := make(chan error, 1)
	begun := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		for ev, err := range r.Watch(ctx, "watched") {
			now := time.Now()
			switch {
			case err != nil:
				failed <- err
				return
			case ev.Record.Name == "watched.first":
				close(begun)
			default:
				told <- now
			}
		}
	})
	<-begun
	var register, closing, appear, disappear []time.Duration
	hear := func(since time.Time, to *[]time.Duration) error {
		select {
		case at := <-told:
			*to = append(*to, at.Sub(since))
			return nil
		case err := <-failed:
			return err
		}
	}
	for range repeats {
		start := time.Now()
		reg, err := r.Register(registry.Record{Name: name})
		if err != nil {
			return err
		}
		register = append(register, time.Since(start))
		if err := hear(start, &appear); err != nil {
			return err
		}
		start = time.Now()
		if err := reg.Close(); err != nil {
			return err
		}
		closing = append(closing, time.Since(start))
		if err := hear(start, &disappear); err != nil {
			return err
		}
	}
	c.Register, c.Close, c.Appear, c.Disappear = measure.Median(register), measure.Median(closing),
		measure.Median(appear), measure.Median(disappear)
	return nil
}
