package natsipc

// This file says how a group over machines works. docs/beyond-one-machine.md says what its users
// must know.
//
// # What a group has in NATS
//
//	KV_ipcgen_group_<group>      bucket: the key "leader" is the lease, see package lease
//	ipcgen_group_<group>         stream: the log of changes, see package changelog
//	ipcgen_group_<group>_SNAP    stream: the last snapshot of the state, in pieces
//	<prefix>.<group>.log         subject of the log; those of snapshots begin with it
//	<prefix>.<group>.reign       subject: leaders tell who they are
//	<prefix>.<group>.who         subject: clients ask for that
//	<prefix>.<group>.<member>.>  subjects of the member's channel
//
// Each member serves a channel of its own, whose name no other process ever has. A group without
// State has no streams.
//
// # The states of a member
//
// A follower executes the changes of the log, and is a candidate for the lease at the same time.
//
//	follower   -> beginning   it has taken the lease, at a revision that is the epoch
//	beginning  -> leader      it has executed the whole log, and its message that begins the reign
//	                          has become the next one of the log
//	beginning  -> resigning   the lease is over, or the log does not take that message
//	leader     -> resigning   the lease is over, another member has written to the log, a message
//	                          was not confirmed in 20 s or while the lease lasted, or the member
//	                          is closed
//	resigning  -> follower    calls that wait have been answered; the lease is released if it is
//	                          still held
//
// # What is fenced by what
//
//   - Changes are fenced by the log alone. A message is stored behind the one that its leader has
//     seen last, or not at all. The first message of a reign takes the next place, so from then on
//     the server refuses whatever former leaders send, however late it arrives. No clock matters.
//   - A change is executed once it is in the log, by the leader as by the others, and answered
//     after that. So nothing that is read or answered can be lost with its leader.
//   - Reads are answered by the leader while it holds the lease, which it looks at before it
//     executes the call and before it lets the answer go. This is the only thing that depends on
//     clocks, and only on their rates, see package lease.
//   - Requests carry the epoch of the leader that the client means, and leaders of other epochs
//     refuse them.
//
// # What happens when
//
//	The leader dies before it has sent a change: the change is not made. The client cannot know.
//	The leader dies when the log has the change: the next leader executes it, as every member
//	    does. The client cannot know. If it sends the call again, which it does for idempotent
//	    methods, the members find the call's number among the last ones, and answer without
//	    executing it.
//	The leader dies between two messages of anything: the lease ends by the time of the others.
//	The leader dies between the parts of a change that is longer than a message: the begin of the
//	    next reign takes the place of the next part, and the parts before count for nothing.
//	The leader is stopped for longer than the lease, and continues: reads that it has executed are
//	    withheld. Changes that it sends find their place taken.
//	The leader is cut off from the servers, and the others are not: as if it were stopped. It
//	    cannot renew the lease, and resigns before another member can take it.
//	A client is cut off with the leader: its calls wait for the next leader, or fail.
//	A minority of the servers is cut off: nothing can be written there. Leaders that are there
//	    resign.
//	No quorum: there are no leaders and no changes, and everything goes on when it is back.
//	A candidate stops between the lease and the log: it holds the lease and begins late. If others
//	    have written meanwhile, its message is refused, and it executes theirs first. A reign that
//	    is older than the one in the log cannot begin.
//	A member dies while it writes a snapshot: the snapshot has no seal, and the one before counts.
//	All members end: the log and the snapshot are what the next ones begin with.
