// Package ipctest provides ipc connections for tests. They need no sockets, no mapped memory and no
// other process, and a test can break them on purpose.
//
// A [Network] replaces a domain. Servers listen in it and clients dial in it, with the same
// handshake, rings and calls as between processes, but on the heap. It works on every platform,
// with the race detector, and in the bubbles of testing/synctest, because no side ever spins.
// [Pipe] is the short form for one server and one client.
//
// [Network.Faulty] puts a relay between clients and servers. The relay loses, holds, delays and
// damages messages, cuts connections and refuses new ones, as the test says and never at random.
//
// There are two differences to real processes. No process can be killed, so [Faults.Cut] stands for
// the death of a peer. And the identity of a peer is the one that the test chooses ([Network.As]),
// not one that the kernel confirms.
package ipctest
