package main

import (
	"context"
	"sync"
	"time"

	"github.com/ipcgen/ipcgen/examples/jobs/gen/jobs"
)

// patience is how long Take waits for a job.
const patience = 500 * time.Millisecond

// A queue implements jobs.Queue. Each method has the same effect when it is executed twice: a job
// is known by its id, and a worker by its name, which holds one job at a time.
type queue struct {
	lease time.Duration

	mu      sync.Mutex
	all     map[string]*job
	waiting []*job
	held    map[string]*job // by worker
	more    chan struct{}   // closed when a job is waiting
	words   uint64
}

type job struct {
	id, text string
	worker   string // "" while the job waits
	since    time.Time
	done     bool
}

func newQueue(lease time.Duration) *queue {
	return &queue{lease: lease, all: map[string]*job{}, held: map[string]*job{},
		more: make(chan struct{})}
}

// Submit implements jobs.Queue.
func (q *queue) Submit(_ context.Context, req *jobs.JobT) (*jobs.SubmittedT, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.all[req.Id] != nil {
		return &jobs.SubmittedT{}, nil
	}
	j := &job{id: req.Id, text: req.Text}
	q.all[j.id] = j
	q.put(j)
	return &jobs.SubmittedT{New: true}, nil
}

// put appends a job to those that wait, and wakes workers. The caller must hold q.mu.
func (q *queue) put(j *job) {
	j.worker = ""
	q.waiting = append(q.waiting, j)
	close(q.more)
	q.more = make(chan struct{})
}

// Take implements jobs.Queue.
func (q *queue) Take(ctx context.Context, req *jobs.WorkerT) (*jobs.AssignmentT, error) {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		j, more := q.assign(req.Name)
		if j != nil {
			return &jobs.AssignmentT{Job: &jobs.JobT{Id: j.id, Text: j.text}}, nil
		}
		select {
		case <-more:
		case <-timeout.C:
			return &jobs.AssignmentT{}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// assign returns the job that the worker holds, or gives it the next one.
func (q *queue) assign(worker string) (*job, <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for name, j := range q.held {
		if now.Sub(j.since) > q.lease { // the worker has crashed, or is too slow
			delete(q.held, name)
			q.put(j)
		}
	}
	j := q.held[worker]
	if j == nil && len(q.waiting) > 0 {
		j, q.waiting = q.waiting[0], q.waiting[1:]
		j.worker, q.held[worker] = worker, j
	}
	if j != nil {
		j.since = now
	}
	return j, q.more
}

// Finish implements jobs.Queue. A result for a job that is not known, or that another worker has
// done meanwhile, changes nothing.
func (q *queue) Finish(_ context.Context, req *jobs.ResultT) (*jobs.RecordedT, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	j := q.all[req.Id]
	if j == nil || j.done {
		return &jobs.RecordedT{}, nil
	}
	if q.held[j.worker] == j {
		delete(q.held, j.worker)
	} else { // its lease ended, and it waits again
		q.waiting = remove(q.waiting, j)
	}
	j.done, j.text = true, ""
	q.words += uint64(req.Words)
	return &jobs.RecordedT{New: true}, nil
}

func remove(list []*job, j *job) []*job {
	for i := range list {
		if list[i] == j {
			return append(list[:i:i], list[i+1:]...)
		}
	}
	return list
}

// Count implements jobs.Queue.
func (q *queue) Count(context.Context, *jobs.QueryT) (*jobs.CountsT, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := &jobs.CountsT{Waiting: uint32(len(q.waiting)), Running: uint32(len(q.held)),
		Words: q.words}
	c.Done = uint32(len(q.all)) - c.Waiting - c.Running
	return c, nil
}
