// Package group runs a service as several processes, of which one, the primary, answers calls. It
// starts the processes, watches them, replaces those that die or hang, and lets clients follow the
// primary.
//
// Three kinds of process take part:
//
//   - The supervisor calls [Start]. It starts the replicas, chooses the primary, and promotes a
//     standby when the primary dies or hangs.
//   - A replica calls [Run] with its services. Without a supervisor the same program serves alone.
//     [Join] and [Replica.Announce] are the steps of Run, for a process that needs control in
//     between.
//   - A client calls [Dial]. The [Client] is an [ipc.Caller], so generated clients are made from it
//     as from an [*ipc.Conn].
//
// With [Config.Replication] a group also keeps the [State] of its service equal on all replicas.
// The package does not run replicas on several machines, and does not store state on disk: package
// natsipc, in the module nats, has groups that do both.
//
// # The reign
//
// One 64-bit word, the reign, holds the epoch and the index of the primary. The word lies in a page
// that only the supervisor can write and that all other processes map read-only. A promotion is one
// atomic store to the word. A server loads the word when it takes a request, and again when it
// releases the reply; so a primary that was stopped and continues after its reign answers nothing.
// The page is part of a file of the domain (".groups/<service>"). The supervisor holds a lock of
// that file for as long as it lives. The lock keeps a second supervisor out, and its release tells
// the other processes that the supervisor has died.
//
// A replica is ready when its record is in the registry and its server answers a handshake. It is
// dead when its robust futex or its pidfd says so. The supervisor acts on that evidence at once,
// and reaps the process later. A missed heartbeat is only a suspicion: the supervisor kills the
// replica, and promotes another one when it has seen the death. After the death of a supervisor,
// locks on places in the group's file tell the next supervisor which replicas are left.
//
// # Glossary
//
// The package, its documentation, its errors and its source use these words, each with one
// meaning. TestHouseWords refuses others for the same things.
//
// Processes:
//
//   - group: the replicas of one service in one domain, with their supervisor.
//   - replica: one of the processes of a group, by its index and its name, "service.index". The
//     name stays when the process is replaced. [Replica] is a replica seen from inside its
//     process, [ReplicaStatus] its state as the supervisor knows it.
//   - place: what a replica has in the group's file: a page, and the bytes whose locks tell which
//     process is there. A group has one place for each index.
//   - joined process: a process that has joined in a place, as the locks tell it to a supervisor.
//   - survivor: a joined process that lives on without a supervisor ([Config.Survive]). The next
//     supervisor adopts it, or evicts it when there is no place for it.
//   - supervisor: the process that called [Start], and the goroutine in it that decides.
//   - stranger: a process that is not of the group and has registered the name of one of its
//     replicas.
//   - terms: the part of its configuration that a supervisor stores in the group's file, for the
//     replicas to work by.
//   - operator: a process that gives orders to a supervisor: failover, roll, or the replacement of
//     one replica ([Operator]).
//
// Roles:
//
//   - primary: the replica that answers. There is one at most.
//   - standby: any other ready replica.
//   - promotion: the store of the supervisor that makes a standby the primary.
//   - failover: a promotion after the primary died, or on demand ([Group.Failover]).
//   - epoch: the number of a promotion. It only grows.
//   - reign: the time of one epoch, and the word that holds the epoch, the primary and the phase of
//     the group.
//   - fence: the check of a server against the reign, before and after a request is executed.
//   - home: the version of the group's file that a replica has mapped. There are several only after
//     the file was lost and made again.
//
// Starts and ends:
//
//   - incarnation: the number of one start of a process in a place. A process whose incarnation
//     is not the one in its place was replaced before it joined.
//   - claim: the lock by which one process acts for an incarnation, and not also the programs that
//     it has started with its environment.
//   - drain: to answer what was taken, and take no more, before the end.
//   - degraded: the limit of restarts was reached, and further ones wait.
//   - suspected: of a replica: killed because it does not do what it should. Of a request, see
//     suspect.
//
// Replication:
//
//   - state: what the service has promised to keep: the type [State].
//   - change: a call that may alter the state. A read is a call of a method marked read_only.
//   - position: the epoch and the number of a change. Replicas at one position have equal states.
//   - session: one connection of the primary to a standby, from the comparison of their states
//     until one of them ends it.
//   - in sync: having executed every change that was answered. The primary waits for those.
//   - the set: the replicas in sync, as the primary has published them.
//   - loss: the exit of a standby from the set. The primary records why, see [OutOfSyncError].
//   - candidates: the set at the end of a reign: the replicas that may be promoted.
//   - accusation: the primary's request to replace a standby that does not do as the primary does.
//
// Requests that end processes:
//
//   - suspect: a request that was in execution when a process died. Suspects are executed one at a
//     time.
//   - trial: the execution of a suspect.
//   - trial slot: what a suspect must have to be executed. A process has one.
//   - quarantine: the time in which a request is refused because two processes died of it.
//
// Time:
//
//   - patience: the longest time for which a process waits for another, or for code of the user.
//   - share: an eighth of such a time. Most are counted in shares, so that a standstill of the
//     process that waits counts as one share at most.
//   - grace: the time that is given to a process or a writer to end, or to a heartbeat to come.
//
// Other words:
//
//   - watch: to wait for changes of a file, a folder or the registry, and to act on each.
//   - text: a sentence in a page, and mark: a sentence in the output in place of what is missing.
package group
