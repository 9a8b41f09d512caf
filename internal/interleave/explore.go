//go:build ipcinterleave

package interleave

import (
	"fmt"
	"iter"
	"runtime"
	"slices"
	"strings"
)

// A Word is a shared word, by its address: a *Uint64, *Bool, *Pointer or *Mutex.
type Word interface{ value(r *Run) uint64 }

// A Run is one execution of the goroutines of an exploration.
type Run struct {
	// Switches bounds how often an execution goes on with another goroutine although the
	// one that ran could. It is 0 where there is no bound.
	Switches int
	// State is a number that stands for whatever the goroutines share that is not in a
	// shared word. It may be nil.
	State func() uint64
	// Check is called when all goroutines have ended, or wait. It returns what is wrong.
	Check func(waiting []string) error

	shared  map[any]int
	words   []Word
	quiet   map[any]bool
	owner   map[any]*task // of words that are not shared
	named   map[any]uint64
	sense   map[any]func(uint64) uint64
	partner map[any]string
	tasks   []*task
	now     *task // nil while the explorer runs
	steps   int
	err     error
	over    bool // goroutines unwind
	// replays is true while a known path is run again: then it is known, too, what the
	// goroutines have seen in the end.
	replays bool
	trace   []string
	traced  bool
}

// running is the execution under way. There is one at a time.
var running *Run

// A task is a goroutine of an exploration.
type task struct {
	run   *Run
	name  string
	f     func()
	on    *worker
	ready func() bool // nil: it can go on
	seen  uint64      // stands for all that it has seen
	began bool
	ended bool
}

// A worker is a coroutine that runs tasks, one after the other. Its stack has grown already.
type worker struct {
	task   *task
	resume func() (ended, ok bool)
	pass   func(ended bool) bool
}

// idle holds the workers that have no task.
var idle []*worker

func newWorker() *worker {
	w := new(worker)
	w.resume, _ = iter.Pull(func(yield func(bool) bool) {
		w.pass = yield
		for {
			w.task.protect()
			yield(true)
		}
	})
	return w
}

// protect runs the task's function until it ends or unwinds.
func (t *task) protect() {
	defer func() {
		switch v := recover().(type) {
		case nil, unwound:
		default:
			t.run.Fail(fmt.Sprintf("%s panics: %v\n%s", t.name, v, stack()))
		}
	}()
	t.f()
}

type unwound struct{}

// Go adds a goroutine.
func (r *Run) Go(name string, f func()) {
	if name == "" {
		name = fmt.Sprintf("goroutine %d", len(r.tasks))
	}
	r.tasks = append(r.tasks, &task{run: r, name: name, f: f})
}

func stack() string {
	b := make([]byte, 8<<10)
	return string(b[:runtime.Stack(b, false)])
}

// Share declares shared words: at each access to one of them, another goroutine may go on
// first.
func (r *Run) Share(words ...Word) {
	for _, w := range words {
		r.shared[w] = len(r.words) + 1
		r.words = append(r.words, w)
	}
}

// ShareWith declares words that others share with one goroutine alone, by rules that keep them
// from disturbing each other. When that one has ended, it does not matter who goes on.
func (r *Run) ShareWith(name string, words ...Word) {
	r.Share(words...)
	for _, w := range words {
		r.partner[w] = name
	}
}

// alone reports whether no other goroutine uses a word any more.
func (r *Run) alone(word any) bool {
	name, ok := r.partner[word]
	if !ok || r.now.name == name {
		return false
	}
	for _, t := range r.tasks {
		if t.name == name {
			return t.ended
		}
	}
	return true
}

// Sense declares what goroutines can tell from a word's value, for a word of which they compare
// values and do not look at them, as those of counters.
func (r *Run) Sense(w *Uint64, of func(v uint64) uint64) { r.sense[w] = of }

// Quiet declares words that goroutines share, but that have no part in what is explored. A
// word that is neither shared nor quiet may be used by one goroutine alone.
func (r *Run) Quiet(words ...Word) {
	for _, w := range words {
		r.quiet[w] = true
	}
}

// Name numbers what words may point to. Other pointers that are not nil count as one.
func (r *Run) Name(pointers ...any) {
	for _, p := range pointers {
		r.named[p] = uint64(len(r.named)) + 2
	}
}

func (r *Run) name(p any, isNil bool) uint64 {
	if isNil {
		return 0
	}
	if n := r.named[p]; n != 0 {
		return n
	}
	return 1
}

// Fail ends the exploration: something is wrong.
func (r *Run) Fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%s", what)
	}
}

// private checks that a word which is not shared is used by one goroutine.
func (r *Run) private(word any) {
	if r.quiet[word] {
		return
	}
	if o := r.owner[word]; o == nil {
		r.owner[word] = r.now
	} else if o != r.now {
		r.Fail(fmt.Sprintf("%s and %s share a word that is not declared:\n%s", o.name, r.now.name,
			stack()))
	}
}

// yield lets others go on. at is what the goroutine is about to do.
func (t *task) yield(at uint64) {
	if t.run.over {
		return // it unwinds
	}
	if !t.run.replays {
		t.seen = mix(t.seen, at)
	}
	if t.run.traced {
		t.run.trace = append(t.run.trace, fmt.Sprintf("%s: %s", t.name, caller()))
	}
	t.on.pass(false)
	if t.run.over {
		panic(unwound{})
	}
}

// wait lets others go on until ready.
func (t *task) wait(ready func() bool) {
	if t.run.over {
		panic(unwound{})
	}
	t.ready = ready
	t.yield(1)
	t.ready = nil
}

// saw records a value that the goroutine has seen.
func (t *task) saw(v uint64) {
	if t != nil && !t.run.replays {
		t.seen = mix(t.seen, v)
	}
}

// sawIn records a value that the goroutine has seen in a word.
func (t *task) sawIn(w *Uint64, v uint64) {
	if t != nil {
		t.saw(t.run.means(w, v))
	}
}

// means is what goroutines can tell from a word's value.
func (r *Run) means(w *Uint64, v uint64) uint64 {
	if of := r.sense[w]; of != nil {
		return of(v)
	}
	return v
}

// settle forgets what the goroutine has seen, but for where it is.
func (t *task) settle(values []bool) {
	if t.run.replays {
		return
	}
	var pcs [32]uintptr
	t.seen = 0
	for _, pc := range pcs[:runtime.Callers(3, pcs[:])] {
		t.seen = mix(t.seen, uint64(pc))
	}
	for _, v := range values {
		t.seen = mix(t.seen, bit(v))
	}
}

// caller is where the code of a project's package reaches a point.
func caller() string {
	var pcs [24]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	var path []string
	for {
		f, more := frames.Next()
		if i := strings.LastIndex(f.Function, "/"); !strings.Contains(f.Function, "interleave.") {
			path = append(path, fmt.Sprintf("%s:%d", f.Function[i+1:], f.Line))
		}
		if !more || len(path) == 5 {
			return strings.Join(path, " < ")
		}
	}
}

func mix(h, v uint64) uint64 {
	h ^= v + 0x9e3779b97f4a7c15 + h<<6 + h>>2
	h *= 0xff51afd7ed558ccd
	return h ^ h>>32
}

// state stands for everything that decides what can happen from here on.
func (r *Run) state() (h [2]uint64) {
	for i := range h {
		h[i] = uint64(i) * 0x51ed270b
		for _, w := range r.words {
			h[i] = mix(h[i], w.value(r))
		}
		for _, t := range r.tasks {
			switch {
			case t.ended:
				h[i] = mix(h[i], 2)
			default:
				h[i] = mix(h[i], t.seen)
			}
		}
		if r.State != nil {
			h[i] = mix(h[i], r.State())
		}
	}
	return h
}

// step lets a goroutine go on to its next point, or its end.
func (r *Run) step(t *task) {
	if !t.began {
		t.began = true
		if n := len(idle); n > 0 {
			t.on, idle = idle[n-1], idle[:n-1]
		} else {
			t.on = newWorker()
		}
		t.on.task = t
	}
	r.now = t
	t.ended, _ = t.on.resume()
	r.now = nil
	if t.ended {
		idle = append(idle, t.on)
	}
}

// able returns the goroutines that can go on. Those that are new are brought to their first
// point, as they share nothing before.
func (r *Run) able() (able []int) {
	for i := 0; i < len(r.tasks); i++ { // which may grow
		if !r.tasks[i].began {
			r.step(r.tasks[i])
		}
	}
	for i, t := range r.tasks {
		if !t.ended && (t.ready == nil || t.ready()) {
			able = append(able, i)
		}
	}
	return able
}

// end takes the goroutines of a run down.
func (r *Run) end() {
	r.over = true
	for _, t := range r.tasks {
		if t.began && !t.ended {
			r.step(t)
		}
	}
}

// A Report says what an exploration has seen.
type Report struct {
	States, Runs int
	Deepest      int
	Err          error    // what is wrong
	Trace        []string // the steps that lead there
}

// maxSteps is more than any execution of a protocol takes that comes to an end.
const maxSteps = 3000

// A choice is one step of the path that is explored.
type choice struct {
	able []int
	at   int
	seen []uint64 // by each goroutine, before the step
	used int      // switches before the step
	last int      // the goroutine that ran before the step; -1: none could go on
}

// next is the goroutine that runs, and how many switches that makes.
func (c *choice) next() (task, used int) {
	task = c.able[c.at]
	if c.last >= 0 && c.last != task {
		return task, c.used + 1
	}
	return task, c.used
}

// Explore runs the goroutines that start adds in every order of their accesses to the words
// that start shares, and stops at the first execution that goes wrong: a goroutine panics, two
// are in a Section, or Check returns an error. States that were reached before are not
// explored again. start is called for each execution and must do the same each time.
func Explore(start func(r *Run)) (rep Report) {
	seen := map[[2]uint64]int{}
	var path []choice
	for {
		rep.Runs++
		r := newRun(start)
		r.replay(path)
		for r.err == nil {
			able := r.able()
			if r.err != nil {
				break
			}
			if len(able) == 0 {
				r.err = r.Check(r.waiting())
				break
			}
			c := choice{last: -1}
			if n := len(path); n > 0 {
				c.last, c.used = path[n-1].next()
			}
			c.bound(able, r.Switches)
			h := r.state()
			if r.Switches > 0 {
				h[0] = mix(h[0], uint64(c.last))
			}
			if used, ok := seen[h]; ok && used <= c.used {
				break
			}
			seen[h] = c.used
			c.seen = r.seen()
			path = append(path, c)
			if len(path) > maxSteps {
				r.Fail("the goroutines come to no end")
				break
			}
			r.step(r.tasks[c.able[0]])
		}
		rep.Deepest = max(rep.Deepest, len(path))
		err := r.err
		r.end()
		running = nil
		rep.States = len(seen)
		if err != nil {
			rep.Err, rep.Trace = err, retrace(start, path)
			return rep
		}
		for len(path) > 0 {
			last := &path[len(path)-1]
			if last.at++; last.at < len(last.able) {
				break
			}
			path = path[:len(path)-1]
		}
		if len(path) == 0 {
			return rep
		}
	}
}

// bound sets which goroutines may run next: those that can, or only the last one where no
// further switch is allowed. The last one comes first.
func (c *choice) bound(able []int, switches int) {
	i := slices.Index(able, c.last)
	if i < 0 {
		c.able, c.last = able, -1
		return
	}
	able[0], able[i] = able[i], able[0]
	if switches > 0 && c.used == switches {
		able = able[:1]
	}
	c.able = able
}

// replay runs a path again, of which the last choice is new.
func (r *Run) replay(path []choice) {
	r.replays = true
	for i := range path {
		able := r.able()
		if !slices.Contains(able, path[i].able[path[i].at]) {
			r.Fail("an execution goes another way when it is run again")
			break
		}
		if i == len(path)-1 {
			r.replays = false
			for t, seen := range path[i].seen {
				r.tasks[t].seen = seen
			}
		}
		r.step(r.tasks[path[i].able[path[i].at]])
	}
	r.replays = false
}

// seen is what each goroutine has seen.
func (r *Run) seen() []uint64 {
	seen := make([]uint64, len(r.tasks))
	for i, t := range r.tasks {
		seen[i] = t.seen
	}
	return seen
}

func newRun(start func(r *Run)) *Run {
	r := &Run{shared: map[any]int{}, quiet: map[any]bool{}, owner: map[any]*task{},
		named: map[any]uint64{}, sense: map[any]func(uint64) uint64{}, partner: map[any]string{}}
	start(r)
	running = r
	return r
}

func (r *Run) waiting() (names []string) {
	for _, t := range r.tasks {
		if !t.ended {
			names = append(names, t.name)
		}
	}
	return names
}

// retrace runs a path again and records the points of each goroutine.
func retrace(start func(r *Run), path []choice) []string {
	r := newRun(start)
	defer func() {
		r.end()
		running = nil
	}()
	r.traced = true
	r.able()
	for _, c := range path {
		t := r.tasks[c.able[c.at]]
		r.trace = append(r.trace, "-- "+t.name+" goes on")
		r.step(t)
		r.able()
	}
	return r.trace
}
