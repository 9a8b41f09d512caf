// Package group runs a service as several processes of which one, the primary,
// answers: it starts them, watches them, replaces the dead, and lets clients
// follow the primary.
//
// Three kinds of process take part:
//
//   - The supervisor calls Start. It spawns the replicas, elects the primary and
//     promotes a standby when the primary dies or hangs.
//   - A replica calls Join, hands the Member to its server as the fence, and
//     announces itself when it serves. Without a supervisor the same code runs
//     alone.
//   - A client calls Dial, and gets an ipc.Caller that follows the primary.
//
// # The reign
//
// Who rules is one 64-bit word in a page that the supervisor alone can write
// and all others map read-only: the epoch and the primary's index. A promotion
// is one atomic store. A server looks at the word when it takes a request and
// again when it releases the reply, so a primary that was stopped and
// continues after its reign answers nothing. The page is a file of the domain
// (".groups/<service>") whose lock the supervisor holds for life: that refuses
// a second supervisor, and tells of the death of the first.
//
// # Evidence
//
// A replica is ready when its record is in the registry and its server answers
// a handshake. It is dead when its robust futex or its pidfd says so: the
// supervisor acts on that at once and reaps the process later. A missed
// heartbeat is suspicion: the replica is killed and seen dead before another is
// promoted. Who was left by a supervisor that was killed is told by locks on
// places in the group's file.
package group
