package group

import (
	"context"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// Depose makes another replica the primary while the old one lives, which the
// supervisor itself never does: for tests of the fence.
func (g *Group) Depose() {
	g.s.ask(func() {
		s := g.s
		for _, r := range s.replicas {
			if r.index != s.reign.primary && r.state == ready && g.MayRule(r.index) {
				s.endReign()
				s.rule(s.reign.epoch+1, r.index)
				return
			}
		}
	})
}

// MayRule reports whether a replica has all that was answered.
func (g *Group) MayRule(index int) bool {
	p := g.s.page
	set := p.lastSet(p.reign().epoch)
	return g.s.cfg.Replication == nil || set&(1<<index) != 0 && p.whole(index)
}

// SetTrialTimes sets the times for which this process has requests wait that may be those which end
// processes.
func SetTrialTimes(d time.Duration) { suspectPatience, trialTime, bystanderPatience = 2*d, d, d }

// A RawPacket is the head of a message from a primary to a standby, for tests of what either can
// do to the other.
type RawPacket struct {
	Method                      int // index in replicaMethods
	Epoch, Incarnation, Session uint64
	Place                       int
	Body                        []byte
}

var replicaMethods = []*ipc.Method[packet, packet]{methodEnter, methodInstall, methodApply,
	methodSeal}

// Call makes a call to a standby.
func (p RawPacket) Call(ctx context.Context, c *ipc.Conn) ([]byte, error) {
	h := head{epoch: p.Epoch, place: p.Place, incarnation: p.Incarnation, session: p.Session}
	req := packet{append(h.append(nil), p.Body...)}
	rep, err := ipc.Invoke(ctx, c, replicaMethods[p.Method], &req)
	if err != nil {
		return nil, err
	}
	return rep.data, nil
}

// RawStandby is the service of a standby whose every answer f gives.
func RawStandby(f func(method int, packet []byte) ([]byte, error)) *ipc.Service {
	var routes []ipc.Route
	for i, m := range replicaMethods {
		routes = append(routes, ipc.Handle(m, func(_ context.Context, p *packet) (*packet, error) {
			data, err := f(i, p.data)
			return &packet{data}, err
		}))
	}
	return ipc.NewService(replicaProtocol, routes...)
}

// ReplicaChannel is the channel of a standby.
func ReplicaChannel(name string) string { return replicaChannel(name) }

// ReignAt is where the group's file has the reign.
const ReignAt = offReign

// ReignOf returns the epoch and the primary of a reign's word.
func ReignOf(word uint64) (epoch uint64, primary int) {
	r := unpackReign(word)
	return r.epoch, r.primary
}

// CandidatesAt is where the group's file has the set of the replicas that may be promoted next.
const CandidatesAt = offCandidates

// SetAt returns where the group's file has the set of replicas in sync that a primary publishes.
func SetAt(index int) int64 { return int64(placeOffset(index) + offSet) }

// SyncedAt returns where the group's file says whether a replica has the state.
func SyncedAt(index int) int64 { return int64(placeOffset(index) + offSynced) }

// ActAsStandby returns the record under which a replica that does not announce itself is a standby
// to its primary, and marks it as one that has the state.
func (r *Replica) ActAsStandby() registry.Record {
	wordAt(r.place, offSynced).Store(packSync(r.incarnation, synced))
	return registry.Record{Name: r.Name(), Service: r.service, Incarnation: r.incarnation}
}

// OutputOfLateReader passes the output r of a dead process on to w. The reader tries for the first
// time after its deadline.
func OutputOfLateReader(r *os.File, w io.Writer) (lost uint64) {
	var count atomic.Uint64
	s := &stream{r: r, to: newSink(w, nil, slog.Default(), &count), own: true}
	r.SetReadDeadline(time.Unix(1, 0))
	s.read()
	<-s.ended
	s.end()
	return count.Load()
}
