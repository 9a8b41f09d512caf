package natsipc

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// groupSubjects are the names that a group has in NATS.
type groupSubjects struct {
	members        string // the prefix of the channels of members
	reign, who     string // subjects of announcements, and of questions
	log            string // subject of changes
	stream, bucket string
}

func groupSubjectsOf(prefix, group string) groupSubjects {
	base := prefix + "." + Token(group)
	name := "ipcgen_group_" + streamName(group)
	return groupSubjects{members: base, reign: base + ".reign", who: base + ".who",
		log:    base + ".log",
		stream: name, bucket: name}
}

// streamName returns a part of the name of a stream or bucket, which have fewer characters than a
// subject: those of Token, but for '='.
func streamName(group string) string {
	var b []byte
	for i := range len(group) {
		switch c := group[i]; {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-':
			b = append(b, c)
		default:
			b = fmt.Appendf(b, "_%02X", c)
		}
	}
	return string(b)
}

// An announcement says who leads a group. The epochs order announcements, and the leader itself
// refuses what is not for it, so that neither a late nor a false one does harm.
type announcement struct {
	Epoch   uint64 `json:"epoch"`
	Member  string `json:"member"`
	Channel string `json:"channel"`         // of the leader
	Ended   bool   `json:"ended,omitempty"` // the reign is over
}

// announcement returns what this member says of itself; ok is false if it is not the leader.
func (m *Member) announcement() (data []byte, ok bool) {
	r := m.reign.Load()
	if !r.valid() {
		return nil, false
	}
	return m.encodeAnnouncement(r.held.Epoch(), false), true
}

func (m *Member) encodeAnnouncement(epoch uint64, ended bool) []byte {
	data, err := json.Marshal(announcement{Epoch: epoch, Member: m.cfg.Member, Channel: m.channel,
		Ended: ended})
	if err != nil {
		return nil // no field can fail
	}
	return data
}

// announceAll announces the reign until ctx ends, and then its end.
func (m *Member) announceAll(ctx context.Context, epoch uint64) {
	for ctx.Err() == nil {
		if data, ok := m.announcement(); ok {
			m.tell(m.subjects.reign, data)
		}
		select {
		case <-time.After(m.cfg.Lease / 3):
		case <-ctx.Done():
		}
	}
	m.tell(m.subjects.reign, m.encodeAnnouncement(epoch, true))
}

// tell publishes to clients, which ask if they do not hear it.
func (m *Member) tell(subject string, data []byte) {
	_ = m.nc.Publish(subject, data)
}

// answerQuestions answers clients that ask for the leader.
func (m *Member) answerQuestions() (*nats.Subscription, error) {
	set := take(m.cfg.Options)
	return m.nc.Subscribe(m.subjects.who, func(q *nats.Msg) {
		if data, ok := m.announcement(); ok && set.answers(q.Reply) {
			m.tell(q.Reply, data)
		}
	})
}
