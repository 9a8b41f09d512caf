package ipc

import (
	"fmt"
	"math/bits"
)

// A routeTable finds the route of a method or message by its id. It is a table with open
// addressing and linear probing, which a look-up for every request makes worth while:
// ids are hashes already, and at least half of the places stay empty. The zero
// routeTable has no routes.
type routeTable struct {
	places []*boundRoute // a power of two of them
}

// bindRoutes makes a table of the services' routes, empty if there are none, behind the gate, and
// appends the descriptions of their protocols to text, if that is not nil.
func bindRoutes(services []*Service, g gate, text *string) (routeTable, error) {
	if len(services) == 0 {
		return routeTable{}, nil
	}
	n := 0
	for _, svc := range services {
		n += len(svc.routes)
	}
	t := routeTable{make([]*boundRoute, 2<<bits.Len(uint(n)))}
	for _, svc := range services {
		for i := range svc.routes {
			r := &svc.routes[i]
			at, other := t.probe(r.id)
			if other != nil {
				return routeTable{}, &Error{Code: CodeInvalidArgument,
					Msg: fmt.Sprintf("%s/%s and %s/%s have the same id %#x; serve each protocol "+
						"once, or rename one of them",
						other.protocol.Name, other.name, svc.protocol.Name, r.name, r.id)}
			}
			t.places[at] = g.bind(svc.protocol, r)
		}
		if text != nil {
			*text += svc.protocol.Schema
		}
	}
	return t, nil
}

// recycle makes the routes decode into objects that were used before.
func (t routeTable) recycle() {
	for _, r := range t.places {
		if r != nil {
			r.recycles = true
		}
	}
}

// find returns the route with the given id, or nil.
func (t routeTable) find(id uint32) *boundRoute {
	if t.empty() {
		return nil
	}
	_, r := t.probe(id)
	return r
}

func (t routeTable) empty() bool { return len(t.places) == 0 }

// probe returns the place of a route, or the place that it would take. The table must not be empty.
func (t routeTable) probe(id uint32) (at uint32, r *boundRoute) {
	mask := uint32(len(t.places) - 1)
	for at = id & mask; ; at = (at + 1) & mask {
		if r = t.places[at]; r == nil || r.id == id {
			return at, r
		}
	}
}
