// Package ipctest lets tests talk over ipc connections that need no sockets, no
// mapped memory and no other process, and lets them break those connections on
// purpose.
//
// A [Network] stands for a domain: servers listen in it and clients dial in it, by the
// same handshake, rings and calls as between processes, on the heap. It works on every
// platform, under the race detector, and inside the bubbles of testing/synctest, where
// time stands still until all wait: no side ever spins. [Pipe] is the short form for
// one server and one client.
//
// [Network.Faulty] puts a relay between clients and servers that loses,
// holds, delays and damages messages, cuts connections and refuses new ones, when a test
// says so and never by chance.
//
// Two things differ from real processes. Ends of a connection that are closed close for good:
// there is no process to kill, so [Faults.Cut] stands for a death. And a
// peer is whoever the test says ([Network.As]), not whom the kernel vouches for.
package ipctest
