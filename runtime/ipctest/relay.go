package ipctest

import (
	"sync"

	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A relay connects a client and a server. It passes the handshake on, but gives the client other
// memory than the server's, and moves the records of each side from one memory to the other.
type relay struct {
	faults         *Faults
	client, server *link // the links to the two sides

	mu       sync.Mutex
	up, down *pump // nil until the server has sent its memory
	over     bool
}

// readClient passes on the bytes that the client sends outside of the rings.
func (r *relay) readClient() {
	buf := make([]byte, 4<<10)
	for {
		got, err := r.client.in.take(buf)
		if err != nil {
			r.client.own.close()
			r.gone(r.server, func() (from, to *pump) { return r.up, r.down })
			return
		}
		pass(got, buf, r.server)
	}
}

// readServer passes on the bytes that the server sends outside of the rings, and replaces the
// memory.
func (r *relay) readServer() {
	buf := make([]byte, 4<<10)
	for {
		got, err := r.server.in.take(buf)
		if err != nil {
			r.server.own.close()
			r.gone(r.client, func() (from, to *pump) { return r.down, r.up })
			return
		}
		for i, m := range got.memory {
			got.memory[i] = r.exchange(m)
		}
		pass(got, buf, r.client)
	}
}

// pass hands bytes on. A failure means that the other end is closed, which its reader notices.
func pass(got parcel, buf []byte, to *link) { _ = to.out.put(buf[:got.n], got.memory) }

// handle turns the notifications of one side into signals for the pumps or, before there are
// pumps, passes them to the other side. It returns when the side has closed its end.
func (r *relay) handle(from, to *link) {
	look := func() bool {
		if !r.wake() {
			to.Notify()
		}
		return false
	}
	for from.Wait(look) == nil {
	}
}

// exchange starts the pumps between the server's memory and new memory for the client, which it
// returns. Memory that is not a segment is passed on unchanged.
func (r *relay) exchange(m shm.Memory) shm.Memory {
	server, ok := m.(shm.HeapMemory)
	geo, isSegment := shm.GeometryOf(server)
	if !ok || !isSegment {
		return m
	}
	client := shm.NewHeapMemory(len(server))
	copy(client, server) // its header and text; the rings are still empty
	pumps, err := newPumps(r, geo, client, server)
	if err != nil {
		r.cut()
		return m
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return client
	}
	r.up, r.down = pumps[ToServer], pumps[ToClient]
	go r.up.run()
	go r.down.run()
	return client
}

// gone handles the end of one side. The messages that it has sent are still delivered to the other
// side; the messages of the other side are lost.
func (r *relay) gone(other *link, pumps func() (from, to *pump)) {
	r.mu.Lock()
	from, to := pumps()
	r.mu.Unlock()
	if from == nil {
		r.end()
		other.Close()
		return
	}
	from.finish()
	to.stop()
}

// cut ends both sides at once.
func (r *relay) cut() {
	r.end()
	r.client.Close()
	r.server.Close()
}

// end stops the pumps.
func (r *relay) end() {
	r.mu.Lock()
	r.over = true
	up, down := r.up, r.down
	r.mu.Unlock()
	if up != nil {
		up.stop()
		down.stop()
	}
	r.faults.forget(r)
}

// wake makes the pumps check their rings and rules. It returns false if there are no pumps.
func (r *relay) wake() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.up == nil {
		return false
	}
	r.up.wake()
	r.down.wake()
	return true
}
