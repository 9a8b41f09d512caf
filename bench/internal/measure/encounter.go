package measure

import (
	"os"

	"github.com/ipcgen/ipcgen/bench/internal/contest"
	"github.com/ipcgen/ipcgen/bench/internal/peer"
)

// An encounter is a server with what it shares with its clients.
type encounter struct {
	setup   peer.Setup
	server  *peer.Process
	cleanup func()
}

// start starts the contestant's server in a process of its own.
func start(c *contest.Contestant, size int) (*encounter, error) {
	dir, remove, err := tempDir()
	if err != nil {
		return nil, err
	}
	e := &encounter{setup: peer.Setup{Dir: dir, Size: size}, cleanup: remove}
	theirs := e.setup
	if c.Files != nil {
		mine, others, err := c.Files(size)
		if err != nil {
			remove()
			return nil, err
		}
		e.setup.Files, theirs.Files = mine, others
		e.cleanup = func() {
			for _, f := range append(mine, others...) {
				f.Close() // some are in both
			}
			remove()
		}
	}
	if e.server, err = peer.Start(c.Key, theirs); err != nil {
		e.cleanup()
		return nil, err
	}
	return e, nil
}

// usage is what this process and the server have used.
func (e *encounter) usage() (client, server peer.Usage, err error) {
	server, err = e.server.Usage()
	return peer.Self(), server, err
}

// stop ends the server. Further calls do nothing.
func (e *encounter) stop() error {
	if e.server == nil {
		return nil
	}
	err := e.server.Close()
	e.server = nil
	e.cleanup()
	return err
}

// tempDir makes a folder whose path is short enough for a socket.
func tempDir() (dir string, remove func(), err error) {
	dir, err = os.MkdirTemp("", "bench")
	return dir, func() { os.RemoveAll(dir) }, err
}
