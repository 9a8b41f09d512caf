// Package registry lists the service instances that live in a domain: their names, channels,
// process, role and epoch.
//
// [Open] opens the registry of a domain. [Registry.Register] publishes a [Record] under a name.
// [Registry.Lookup] finds a name, [Registry.List] lists names, and [Registry.Watch] delivers
// changes. The package does not start processes or choose roles; package group does.
//
// The registry is a table in a file that every process of the domain maps. It follows these rules:
//
//   - A lock is the evidence that an instance lives. An owner holds OFD locks for its name and for
//     its slot. The kernel releases both when the process ends, whatever the cause and whichever
//     process has the pid next. The pid in a record is information for people.
//   - Each slot has one writer, the holder of its lock. All words of a slot are written before one
//     atomic store publishes the slot. The only word that changes afterwards holds role and epoch
//     together. A process that is killed between any two stores leaves a slot without a lock, which
//     is a free slot.
//   - Readers never lock and never wait, and they repeat a bounded number of times at most. Every
//     word is loaded once, atomically, and checked before it is used.
//   - A record has a checksum, so that no reader takes one for true, and keeps it, that another
//     process has overwritten. The owner looks each 400 ms, and stores the record again.
//   - The kernel reports changes. An owner writes a byte to its lock file after a change, the
//     kernel closes the lock file of a dead owner, and inotify reports both. No event marks the
//     moment, slightly later, at which the locks of a dead owner are released; watchers therefore
//     look again several times after a close. Where inotify is not available, watchers poll until
//     it is.
//   - A table that is removed or replaced does not end a registration. Every process checks each
//     400 ms, by one timer for all that it has open, whether its table still has the name "table".
//     If not, the process changes to the table that has the name, or creates it, and registers its
//     own names there. A process that finds its name taken there has lost the name
//     ([Registration.Done]). A lock file that has lost its name ends the table as well: the process
//     that finds that removes the table.
//
// The locks of 64 slots share one small file. The kernel searches the locks of a file one after the
// other, and an inotify event names the file. A test for life and the search of a watcher therefore
// cost the same with 10 instances and with 4,000.
//
// # Files
//
// All files lie in the folder ".registry" of the domain: "table", and "slots.NNN" with the locks of
// 64 slots each. Users of a table that was cut short or overwritten get an error until the file is
// removed. A table of zeros, which a loss of power can leave, is written again. Processes map the
// table for reading. The owner of a slot also maps the slot's pages for writing, and so does, for a
// moment, a process that clears the slot of a dead owner.
package registry
