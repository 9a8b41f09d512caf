package ipc

// This file is what calls know of epochs. An epoch numbers the reign of one
// primary; it grows at each promotion and is never used twice. 0 stands for
// "none": neither checked nor given.

// A Fence keeps a server from acting in an epoch that is not its own, or that has ended. Its
// methods are called for every request, must be safe for concurrent use, and should cost no more
// than an atomic load.
type Fence interface {
	// Epoch is the epoch the server acts in at this moment, or 0. Every reply
	// carries the one that held when the reply was released.
	Epoch() uint64
	// Admit decides on a request whose caller acts in epoch (0 where it gave
	// none). It is asked twice: before the request is handled, where an error
	// refuses it (CodeFenced, outcome NotExecuted), and again before the
	// reply is released, where an error withholds it (CodeFenced, outcome
	// Unknown). The error's text travels to the caller. A one-way message that
	// it refuses is dropped and counted; it is asked once, when a message that
	// has waited is handled.
	Admit(epoch uint64) error
}

// An EpochSource returns the epoch in which a client acts. Epoch is called for every request and
// every reply, and must be safe for concurrent use.
type EpochSource interface {
	// Epoch is the epoch that requests shall carry. A reply that carries an
	// older one (but not 0) is refused with CodeFenced, outcome Unknown.
	Epoch() uint64
}
