package changelog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ipcgen/ipcgen/nats/internal/ask"
)

// A Snapshot is what a member keeps, at a position of the log.
type Snapshot struct {
	At   Position
	Data []byte
}

// A seal is the last message of a snapshot, in JSON. The pieces of the snapshot lie before it. They
// count for nothing without it, so a member that dies while it writes a snapshot leaves the last
// one.
type seal struct {
	Seq    uint64 `json:"seq"`
	Sum    uint64 `json:"sum"`
	First  uint64 `json:"first"` // piece, a message of the stream
	Pieces int    `json:"pieces"`
	Size   int    `json:"size"`
	SHA256 string `json:"sha256"`
}

// pieceSize is the size of a piece of a snapshot.
const pieceSize = 256 << 10

// SaveSnapshot keeps a snapshot, unless there is a later one, and removes what it stands for: the
// snapshot before it, and the changes up to that one. Those between the two stay, for members that
// are not far behind. The error is [ErrBehind] if another member saves a snapshot.
func (l *Log) SaveSnapshot(ctx context.Context, s Snapshot) error {
	info, err := l.snapshots.Info(ctx)
	if err != nil {
		return err
	}
	former, err := l.lastSeal(ctx)
	if err != nil && !errors.Is(err, errSeal) { // this snapshot takes the place of that one
		return err
	}
	if former.Seq >= s.At.Seq {
		return nil
	}
	digest := sha256.Sum256(s.Data)
	last := info.State.LastSeq
	mark := seal{Seq: s.At.Seq, Sum: s.At.Sum, First: last + 1, Size: len(s.Data),
		SHA256: hex.EncodeToString(digest[:])}
	for rest := s.Data; len(rest) > 0; {
		n := min(len(rest), pieceSize, l.maxSize)
		if err := l.store(ctx, l.snapshots, l.cfg.pieces(), last, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
		last++
		mark.Pieces++
	}
	text, err := json.Marshal(&mark)
	if err != nil {
		return err
	}
	if err := l.store(ctx, l.snapshots, l.cfg.done(), last, text); err != nil {
		return err
	}
	if err := l.snapshots.Purge(ctx, jetstream.WithPurgeSequence(mark.First)); err != nil {
		return err
	}
	return l.Trim(ctx, former.Seq)
}

var errSeal = errors.New("somebody else has written over the last snapshot")

// lastSeal returns the seal of the last snapshot, or an empty one.
func (l *Log) lastSeal(ctx context.Context) (s seal, err error) {
	m, err := l.snapshots.GetLastMsgForSubject(ctx, l.cfg.done())
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(m.Data, &s); err != nil {
		return seal{}, fmt.Errorf("%w in stream %s; the next snapshot of the leader takes its "+
			"place: %w", errSeal, l.snapshots.CachedInfo().Config.Name, err)
	}
	return s, nil
}

// LoadSnapshot returns the last snapshot, or an empty one if there is none.
func (l *Log) LoadSnapshot(ctx context.Context) (Snapshot, error) {
	for {
		s, err := ask.Until(ctx, l.js.Conn(), l.lastSeal)
		if err != nil || s.Seq == 0 {
			return Snapshot{}, err
		}
		data, err := l.load(ctx, &s)
		if err == nil {
			return Snapshot{Position{s.Seq, s.Sum}, data}, nil
		}
		if now, again := ask.Until(ctx, l.js.Conn(), l.lastSeal); again != nil || now == s {
			return Snapshot{}, err
		} // otherwise a later one has taken the place of its pieces
	}
}

// LoadLater returns a snapshot behind at, which must be there because messages behind at have given
// way to it. The error is [ErrRewritten] if there is none: somebody else has removed the messages.
func (l *Log) LoadLater(ctx context.Context, at Position) (Snapshot, error) {
	for times := 1; ; times++ {
		s, err := l.LoadSnapshot(ctx)
		if err != nil || s.At.Seq > at.Seq {
			return s, err
		}
		if l.settled(times) {
			return s, fmt.Errorf("%w: messages behind %d were removed, and no snapshot has taken "+
				"their place", ErrRewritten, at.Seq)
		}
		select {
		case <-time.After(ask.Pause):
		case <-ctx.Done():
			return s, context.Cause(ctx)
		}
	}
}

func (l *Log) load(ctx context.Context, s *seal) ([]byte, error) {
	data := make([]byte, 0, min(max(s.Size, 0), 1<<20))
	for i := range s.Pieces {
		piece, err := ask.Until(ctx, l.js.Conn(), func(ctx context.Context) ([]byte, error) {
			return l.find(ctx, l.snapshots, s.First+uint64(i))
		})
		if err != nil {
			return nil, fmt.Errorf("piece %d of the snapshot of message %d: %w", i+1, s.Seq, err)
		}
		data = append(data, piece...)
	}
	digest := sha256.Sum256(data)
	if len(data) != s.Size || hex.EncodeToString(digest[:]) != s.SHA256 {
		return nil, fmt.Errorf("the snapshot of message %d is damaged", s.Seq)
	}
	return data, nil
}
