package checkup

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/dynamic"
)

// An answer is what a server tells of itself.
type answer struct {
	channel string
	server  *dynamic.Server
}

// A version is a protocol as some servers serve it.
type version struct {
	fingerprint uint64
	channels    []string
	schema      *dynamic.Schema
}

// versions compares the protocols that several servers serve.
func (c *checkup) versions() {
	found := make(map[string][]*version)
	var names []string
	for _, a := range c.servers {
		for _, p := range a.server.Description.Protocols {
			if p.Definition < 0 {
				continue // what it means is not known
			}
			all := found[p.Name]
			i := slices.IndexFunc(all, func(v *version) bool {
				return v.fingerprint == p.Fingerprint
			})
			switch {
			case i < 0:
				found[p.Name] = append(all, &version{p.Fingerprint, []string{a.channel},
					a.server.Schema})
				if len(all) == 0 {
					names = append(names, p.Name)
				}
			case all[i].channels[len(all[i].channels)-1] != a.channel:
				all[i].channels = append(all[i].channels, a.channel)
			}
		}
	}
	for _, name := range names {
		if all := found[name]; len(all) > 1 {
			c.compare(name, all)
		}
	}
}

// compare tells whether the clients of all versions of a protocol can call all servers.
func (c *checkup) compare(name string, all []*version) {
	var texts []string
	for _, v := range all {
		texts = append(texts, fmt.Sprintf("%016x on %s", v.fingerprint,
			some(v.channels)))
	}
	for _, client := range all {
		for _, server := range all {
			if client == server {
				continue
			}
			if err := client.schema.CheckCompatible(name, server.schema); err != nil {
				c.add(Warn, "versions of "+name, "build all programs from one schema; "+
					"ipcctl describe shows that of each", "%s: a client of %s cannot use %s: %v",
					strings.Join(texts, "; "), client.channels[0], server.channels[0], err)
				return
			}
		}
	}
	c.add(OK, "versions of "+name, "", "%s, which understand each other",
		strings.Join(texts, "; "))
}
