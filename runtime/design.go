package ipc

// This file has no code. It explains the package to its maintainers: its words, its locks, and the
// path of an error.
//
// # Words
//
// The source uses these words, each with one meaning. TestHouseWords refuses others for the same
// things.
//
// Connections:
//
//   - link: one end of a fresh connection ([Link]). The handshake travels over it.
//   - wire: the part of a link that is in use after the handshake.
//   - notification: what [Link] calls Notify: it ends the peer's wait. The doorbell is how sockets
//     carry it.
//   - poke: a notification that a side sends to itself.
//   - record: a unit of the ring. A message is one record, or several pieces.
//   - frame: the header of a message.
//   - handshake: the exchange of hellos that makes a connection. The client negotiates; the server
//     accepts, or rejects.
//   - admission: a link that a server has accepted, from then until its end. It counts towards the
//     limit of connections once it is reserved.
//   - session: the wire of a connection that carries no calls, of a stream or of a link kind.
//   - link kind: what a package of its own, such as topic, makes of a connection.
//   - down: of a connection: the reason why it ends. teardown releases its memory.
//
// Reading:
//
//   - reader: the goroutine that holds the reader role, which alone may use the receiver.
//   - waiter: the goroutine of a client that waits for the doorbell.
//   - recheck: the last check before a wait. It declares in the memory that this side sleeps.
//   - park: to wait for a channel of this process, until another goroutine completes the work.
//   - spin: to poll the ring before sleeping.
//
// Calls and messages:
//
//   - pending: a call in flight at the client.
//   - job: a call in execution at the server.
//   - inline: of a handler: run by the reader itself. The watchdog hands the role of a slow one to
//     a new goroutine.
//   - postponed: of a call: run inline and not answered yet, because its answer waits for another
//     process. The reader first runs what else has come, see ServerCall.AnswerAfter.
//   - detached: of a job: run by a goroutine that does not hold the reader role.
//   - run: one-way messages that a server's reader has taken out of the ring together, and handles
//     inline, one after the other.
//   - delivery: a one-way message without its body, on its way to the handler.
//   - streaming call: a call of a method that streams. A stream is one of blocks.
//   - flow: the items of a streaming call at one side, and their credit. The end stands behind the
//     items that come; the stop ends those that go.
//   - control: a frame without a body that goes before other messages.
//   - gate: the interceptors of a server, which everything passes that a client starts.
//
// Writing:
//
//   - writer role: what a goroutine must hold to write a message.
//   - space, or room: free bytes in the ring. A writer that finds none requests it from the
//     consumer, and waits until it is released.
//   - gap: the unused bytes before a message that was built in the ring. [Gap] is unrelated: it is
//     a difference of two versions of a protocol.
//
// Clients:
//
//   - resolver: what finds the server of a [Client].
//   - connector: a goroutine of a Client that keeps the connection to one endpoint.
//   - watch: to wait for changes of the outside, such as a folder.
//
// # Locks
//
// These are the mutexes of the package. TestHouseLocks fails if one is missing here, or if the code
// takes them in another order.
//
//	Client.mu           links, endpoints and the current server of a client
//	Server.mu           listeners, admissions and connections of a server
//	socketListener.mu   the files of a channel
//	writerRole.mu       the producer of a ring
//	passage.mu          the execution of a call, for its interceptors
//	serverConn.mu       the detached jobs of a connection
//	inbox.mu            messages that wait for their handler
//	callTable.mu        idle places for calls
//	flowTable.mu        streaming calls of a client
//	flow.mu             items and credit of a streaming call
//	carried.mu          the source of the items of a call of Handler.Handle
//	carried.sending     the item that such a call sends
//	callScope.mu        the context that the end of the connection ends
//	callEnd.mu          the end of a context
//	replyMetadata.mu    the metadata that a handler has set
//	catalogue.mu        the names of declared methods
//	BidiStream.mu       results of a call step by step, for Receive
//	HealthState.mu      what the process says of its health
//	lookout.mu          who asks about a server, and the counting for them
//	tap.mu              who reads a tap, and the record that the reader could not take
//	stream.mu           the memory of a stream, during one operation
//	shelf.mu            buffers of the process that are not in use
//	ballast.mu          memory that the garbage collector counts
//
// A goroutine that holds one may take:
//
//	Server.mu before socketListener.mu
//	writerRole.mu before serverConn.mu
//	passage.mu before serverConn.mu
//	serverConn.mu before inbox.mu
//	serverConn.mu before callEnd.mu
//	callScope.mu before callEnd.mu
//	callTable.mu before shelf.mu
//
// All other pairs are never held together. Code of the user runs under these only:
//
//   - [Resolver.Resolve] under Client.mu;
//   - the callbacks that build a message in place, under writerRole.mu;
//   - the callbacks of [StreamWriter.Write] and [StreamReader.Read], under stream.mu;
//   - [Inbound.In] under carried.mu, and [Inbound.Out] under carried.sending;
//   - the handler of the logger, under Server.mu, if a listener cannot be closed.
//
// Contexts may take locks of their own in their methods Done and Err. No lock above, except
// callScope.mu and callEnd.mu, is taken by a context of this package.
//
// # The path of an error
//
// An operation that fails ends with an [*Error] that is finished in three steps, in this order:
//
//  1. The code that finds the fault makes the Error, with a code and a text, and with the outcome
//     if the operation is a call. A failure of the system becomes one by asError.
//  2. The connection decides on the outcome, if only it knows: Conn.teardown, Conn.giveUp.
//  3. The exported method adds the operation: callFailed for calls, sendFailed for messages,
//     Error.at for streams, asError for everything that makes a connection.
//
// Each side finishes its errors in one file. client_errors.go has what a client makes of a reply,
// of an answer that is an error, and of several attempts: Conn.outcome, attempts.failed,
// attempts.unreachable, retrier.gaveUp. server_errors.go has what a server answers: errorFrame with
// answeredOutcome for calls, refusalOf for clients that it does not admit. errors.go has what both
// sides need: an Error that goes to the peer is reduced to code, outcome and text by these, by
// verdictOf at the end of a handshake, or by endOf at the end of a stream of blocks, and becomes an
// Error again by remoteError. Package topic finishes its errors in the same way: those of a
// publisher by Publisher.failed, those of a subscription by Subscription.failed.
//
// # What the checker of interleavings runs
//
// Tests with the tag ipcinterleave run goroutines in every order of their accesses to shared words,
// or in every order with a bounded number of switches. They run the methods of readerRole,
// writerRole and the ring that the package itself uses, over words that the checker controls, and
// the client's own loops: Conn.await, Conn.listen and Conn.giveUp.
//
// Two things are reduced. The reader of a server, in the tests of writerRole, is a loop of a dozen
// lines in place of serverConn.serve: it calls recheckSpace where serve does. It reads no requests,
// runs no handlers, and hands its role to no other goroutine. So these tests do not cover the order
// of serve's other steps; tests with processes do, in the orders that happen to occur. The peer is
// a model of one that follows the protocol, over a wire that loses no notification.
