package ipc

import "github.com/ipcgen/ipcgen/internal/interleave"

// A readerRole decides which goroutine of a client may read the ring of replies, and which
// one waits for the doorbell. Its methods are the only access to its words, and each changes
// them in one step; client_role_interleave_test.go runs the code that calls them in every order.
//
// The role is free, asleep, held, held and notified, or over:
//
//	free      no goroutine reads, and none needs a reader
//	asleep    the waiter takes the role when the server rings the doorbell
//	held      one goroutine reads
//	notified  held, and the waiter was woken meanwhile: the holder must look again
//	over      the connection has ended, and its memory is gone
//
// A reader is needed while a caller is parked, and always in a client that handles messages. As
// that is in the same word as the state, a goroutine cannot park unseen while another one
// frees the role.
type readerRole struct {
	word interleave.Uint64
	// waiter is the call whose caller waits for the doorbell, or listenerCall; nil if no
	// goroutine waits for it.
	waiter interleave.Pointer[pending]
	reads  interleave.Section // while the role is held
}

// The state, in the lowest bits of a role's word.
const (
	roleFree uint64 = iota
	roleAsleep
	roleHeld
	roleNotified

	roleState  = 7         // the bits of the state
	roleClosed = roleState // all of them, so that setting bits is enough
)

// The other bits of a role's word.
const (
	rolePermanent = 1 << 3 // a reader is always needed
	rolePaused    = 1 << 4 // nothing is to be read until resume
	roleEnded     = 1 << 5 // the holder must tear the connection down
	roleParked    = 1 << 8 // one parked caller; the bits above count them
)

// listenerCall stands for the listener where a waiter is a call.
var listenerCall = new(pending)

// A grant says how a goroutine got the role.
type grant uint8

const (
	notGranted grant = iota
	grantedFree
	grantedAsleep // the server must be told that this side is awake
)

// readerNeeded reports whether a word says that a reader is needed.
func readerNeeded(w uint64) bool { return w >= roleParked || w&rolePermanent != 0 }

// needed reports whether a reader is needed.
func (r *readerRole) needed() bool { return readerNeeded(r.word.Load()) }

// paused reports whether nothing is to be read until resume.
func (r *readerRole) paused() bool { return r.word.Load()&rolePaused != 0 }

// keepNeeded makes a reader needed for as long as the connection lives.
func (r *readerRole) keepNeeded() { r.word.Or(rolePermanent) }

// park counts a caller that waits for another goroutine to complete its call.
func (r *readerRole) park() { r.word.Add(roleParked) }

// unpark takes back one park.
func (r *readerRole) unpark() { r.word.Add(^uint64(roleParked - 1)) }

// take takes the role if no goroutine holds it.
func (r *readerRole) take() grant {
	if r.word.CompareAndSwap(roleFree, roleHeld) {
		r.reads.Enter()
		return grantedFree
	}
	return r.move(0, false)
}

// takeFree takes the role if it is free.
func (r *readerRole) takeFree() bool {
	if !r.word.CompareAndSwap(roleFree, roleHeld) {
		return false
	}
	r.reads.Enter()
	return true
}

// takeOrNotify takes the role if no goroutine holds it. Otherwise the holder looks at the ring
// once more before it gives the role up to the waiter.
func (r *readerRole) takeOrNotify() grant { return r.move(0, true) }

// end makes the holder of the role tear the connection down. It takes the role if it is not held.
func (r *readerRole) end() grant { return r.move(roleEnded, false) }

// pause declares that nothing is to be read until resume. The caller must hold the role.
func (r *readerRole) pause() { r.word.Or(rolePaused) }

// resume takes pause back. The caller must take the role afterwards if no goroutine holds it, and
// read the messages that have arrived meanwhile.
func (r *readerRole) resume() { r.word.And(^uint64(rolePaused)) }

// move sets bits, and in the same step takes the role if no goroutine holds it; with notify, it
// leaves a notice for the goroutine that holds it. A paused role is only taken to end it.
func (r *readerRole) move(set uint64, notify bool) grant {
	for {
		interleave.Settled()
		w := r.word.Load()
		to, how := w|set, notGranted
		switch {
		case w&roleState == roleFree:
			to, how = to&^roleState|roleHeld, grantedFree
		case w&roleState == roleAsleep && to&(rolePaused|roleEnded) != rolePaused:
			to, how = to&^roleState|roleHeld, grantedAsleep
		case w&roleState == roleHeld && notify:
			to = to&^roleState | roleNotified
		}
		if to == w {
			return notGranted
		}
		if r.word.CompareAndSwap(w, to) {
			if how != notGranted {
				r.reads.Enter()
			}
			return how
		}
	}
}

// A need says what the holder of a role must do before it can give the role up.
type need uint8

const (
	needsNothing  need = iota // it has given the role up
	needsReader               // read what has come, and entrust the role to the waiter
	needsRoom                 // entrust the role to the waiter: it is paused
	needsTeardown             // tear the connection down
)

// free gives the role up if no reader is needed. The caller must hold the role.
func (r *readerRole) free() need {
	for w := roleHeld; ; w = r.word.Load() {
		switch {
		case w&roleEnded != 0:
			return needsTeardown
		case w&rolePaused != 0:
			return needsRoom
		case readerNeeded(w):
			return needsReader
		case r.word.CompareAndSwap(w, w&^roleState): // roleFree
			r.reads.Leave()
			return needsNothing
		}
	}
}

// entrust gives the role up to the waiter, which the server wakes if it was asked to. It reports
// false if the caller must continue: the waiter was notified meanwhile, the server was not asked to
// wake it, no reader is needed any more, or the connection has ended. While the role is paused,
// resume continues. The caller must hold the role.
func (r *readerRole) entrust(asked bool) bool {
	for {
		interleave.Settled(asked)
		w := r.word.Load()
		switch {
		case w&roleState == roleNotified:
			if r.word.CompareAndSwap(w, w&^roleState|roleHeld) {
				return false
			}
		case w&roleEnded != 0, !readerNeeded(w), !asked && w&rolePaused == 0:
			return false
		case r.word.CompareAndSwap(w, w&^roleState|roleAsleep):
			r.reads.Leave()
			return true
		}
	}
}

// close ends the role, so that no goroutine can take it. The caller must hold the role.
func (r *readerRole) close() {
	r.word.Or(roleClosed)
	r.reads.Leave()
}

// becomeWaiter makes the caller of p the goroutine that waits for the doorbell. It reports
// false if another one is.
func (r *readerRole) becomeWaiter(p *pending) bool { return r.waiter.CompareAndSwap(nil, p) }

// leaveWaiter lets another goroutine wait for the doorbell.
func (r *readerRole) leaveWaiter() { r.waiter.Store(nil) }

// isWaiter reports whether the caller of p waits for the doorbell.
func (r *readerRole) isWaiter(p *pending) bool { return r.waiter.Load() == p }
