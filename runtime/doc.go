// Package ipc is the runtime of code that ipcgen generates: typed calls and messages between the
// processes of one Linux host, over shared memory.
//
// A server makes a [Server] of generated services and serves a channel; a client dials the
// channel and hands the connection to a generated client:
//
//	server := ipc.NewServer(greeter.NewGreeterService(handler))
//	err := server.Run(ctx, "greeter")
//
//	conn, err := ipc.Dial(ctx, "greeter")
//	client := greeter.NewGreeterClient(conn)
//	reply, err := client.Greet(ctx, &greeter.HelloT{Name: "world"})
//
// # Domains and channels
//
// A domain is a directory that belongs to one user and that no other user can enter. It holds one
// socket for each channel: the name under which a server is found. The socket carries the
// handshake and the notice of death; messages travel through memory that belongs to the
// connection alone. See [WithDomain] for how a process finds its domain.
//
// # Calls and messages
//
// A call is a request and its reply, and ends when its context ends. A message ([Send]) has no
// reply, and may travel in either direction. Both are verified before a handler sees them.
// A handler runs on a goroutine of the connection; handlers of calls run concurrently, handlers of
// messages one after the other.
//
// A [Conn] and every generated client may be used by several goroutines at the same time.
//
// # Errors and outcomes
//
// Every error of a call is an [*Error]. Its [Code] says what went wrong, and its [Outcome] whether
// the request may have been executed: a caller that must not execute twice sends again only after
// [NotSent] and [NotExecuted]. A handler returns a code to its caller with [Errorf]. The text of
// any other error that a handler returns reaches the caller with [CodeUnknown].
//
// # Trust
//
// Both sides are told by the kernel which process and which user is at the other end, and refuse
// other users unless [WithAuthorize] admits them. A peer that crashes, hangs or corrupts shared
// memory affects only its own connection: every word read from shared memory is checked, and
// every message is copied before it is verified. Calls in place do without the copy, so they need
// trust in the peer; see [WithTrustedClients].
//
// # Shutdown
//
// [Server.Run] serves until its context ends or the process gets SIGINT or SIGTERM. Then it drains
// the server: calls in progress finish, within [WithGrace], and further ones are refused, which is
// reported as not executed. [Server.Shutdown] does the same for a process that uses [Listen] and
// [Server.Serve] itself. [Server.Close] ends all connections at once, as does the end of the
// context of Serve.
//
// # What this package does not do
//
// A [Conn] ends with its server's process; a [Client], which [Connect] makes, connects to the next
// one. Nothing here starts processes. Package group, in the folder beside this one, keeps several
// processes of a service and follows the one that answers. Package registry tells
// which instances live. Package ipctest connects within one process, for tests. On platforms
// other than Linux the package compiles, and operations that need shared memory return an error
// with [CodeUnsupported].
package ipc
