// Package registry tells which service instances live in a domain: their
// names, channels, process, role and epoch.
//
// A domain's registry is a table in a file that every process maps. Its rules:
//
//   - Evidence of life is a lock. An owner holds OFD locks for its name and
//     for its slot as long as it lives, so the kernel itself frees both,
//     whatever the process dies of and whatever its pid is used for next. The
//     pid in a record is information for people.
//   - One writer per slot: the holder of its lock. What a reader may see is
//     written before the slot is published by one atomic store; the only word
//     that changes afterwards holds role and epoch together. A process killed
//     between any two stores leaves a slot without a lock, which is a free slot.
//   - Readers never lock, wait or repeat without bound. Every word is loaded
//     once, atomically, and checked before it is used.
//   - Changes are told by the kernel as well: an owner writes a byte to its
//     lock file after a change, a dead owner's lock file is closed for it, and
//     inotify reports both. Nothing tells of the moment at which a dead owner's
//     locks are free, a little later: watchers look again a few times after a
//     close. Where inotify is short they poll until it is not.
//   - A table that is removed or replaced is followed: every process looks each
//     400 ms whether its table still has the name, goes on with the one that has,
//     makes it if need be, and registers its own names there. Who finds a name
//     taken there has lost it (Registration.Done).
//
// The lock of a slot lives in a small file shared by 64 slots: the kernel
// searches a file's locks one after the other, and an event names the file, so
// both a test for life and a watcher's search cost the same at 10 instances and
// at 4,000.
//
// # Files
//
// All lie in the folder ".registry" of the domain: "table", and "slots.NNN" with
// the locks of 64 slots each. A table that was cut short or overwritten is an error
// to its users until somebody removes it; one of zeros, as a loss of power leaves
// it, is written again. All map the table for reading; the owner of a slot maps its
// pages for writing as well, and whoever clears a dead owner's slot does for that
// moment.
package registry
