package main

import (
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/orders"
)

const drainHelp = `usage: ipcctl drain [flags] name

Ends one server in order, and waits until its process has gone: it takes no more
calls, and answers those that it has taken. A replica of a group is ended by its
supervisor, which starts another process in the place; the primary's clients go
on with a standby. Any other process gets SIGTERM, which programs that use
ipc.Server.Run or group.Run understand; it is never killed.

  ipcctl drain audio_compute.1
  ipcctl drain -yes -timeout 5m greeter

Flags:
  -yes            do not ask; needed where standard input is no terminal
  -timeout d      how long it may take (default 1m)
  -domain name    the domain, a name or a path (default: as programs choose it)
  -h              print this

Exit status: 0 when the process has gone; 66 if it still runs after the timeout;
otherwise as that of ipcctl failover.
`

func (t *terminal) drain() *cli.Command {
	return t.order("drain", "end a server in order", drainHelp, time.Minute, orders.Drain)
}
