package group

import (
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/runtime/registry"
)

// On a busy machine a process may have joined, and be in sync, before its supervisor knows that it
// has started. The notice is not repeated.
func TestSyncBeforeTheStartIsKnown(t *testing.T) {
	handle, kill := startSleeper(t)
	f, err := os.CreateTemp(t.TempDir(), "page")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := makeSupervisor(Config{Service: "svc", Replicas: 1, ReadyTimeout: time.Hour,
		Replication: new(Replication), Logger: slog.New(slog.DiscardHandler)},
		nil, nil, &page{f: f, mem: make([]byte, placeOffset(1))})
	r := s.replicas[0]
	r.state = starting
	s.reign = reign{epoch: 1, primary: 0}
	place := s.page.mem[placeOffset(0):]
	wordAt(place, offSynced).Store(packSync(1, synced))
	wordAt(place, offSet).Store(packSet(1, 1))
	s.checkSync()
	if r.synced {
		t.Error("in sync without a process")
	}
	s.started(r, &process{handle: handle, page: s.page}, 0, nil)
	if !r.synced {
		t.Error("not seen to be in sync")
	}
	close(s.done)
	kill()
	s.helpers.Wait()
	s.launch.close()
	s.events.close()
}

// A supervisor may be killed when it has ended a reign and not yet stored the candidates. The next
// one determines them, and does not use those of the reign before.
func TestCandidatesOfAReignEndedByAKilledSupervisor(t *testing.T) {
	p := &page{mem: make([]byte, placeOffset(3))}
	wordAt(p.mem, offReign).Store(reign{epoch: 4, primary: none}.pack())
	wordAt(p.mem, offCandidates).Store(packSet(ofCandidates, 0b001))
	wordAt(p.mem, placeOffset(1)+offSet).Store(packSet(4, 0b110))
	s := makeSupervisor(Config{Service: "svc", Replicas: 3, Replication: new(Replication),
		Logger: slog.New(slog.DiscardHandler)}, nil, nil, p)
	defer s.events.close()
	defer s.launch.close()
	s.adoptAll(nil)
	candidates, ok := unpackSet(wordAt(p.mem, offCandidates).Load(), ofCandidates)
	if !ok || candidates != 0b110 {
		t.Errorf("candidates %b", candidates)
	}
}

// A replica that registers and gives up its registration before its supervisor knows that it has
// started is not ready.
func TestResignationBeforeTheStartIsKnown(t *testing.T) {
	s := makeSupervisor(Config{Service: "svc", Replicas: 1,
		Logger: slog.New(slog.DiscardHandler)}, nil, nil,
		&page{mem: make([]byte, placeOffset(1))})
	defer s.events.close()
	defer s.launch.close()
	r := s.replicas[0]
	r.state, r.incarnation, r.proc = starting, 1, new(process)
	rec := registry.Record{Name: r.name, Incarnation: 1}
	s.noticed(registry.Event{Kind: registry.Appeared, Record: rec})
	probed := <-s.inbox
	s.noticed(registry.Event{Kind: registry.Disappeared, Record: rec})
	probed()
	if r.state != starting || r.answers {
		t.Errorf("state %v, answers: %v", r.state, r.answers)
	}
	s.noticed(registry.Event{Kind: registry.Appeared, Record: rec})
	(<-s.inbox)()
	if r.state != ready {
		t.Errorf("state %v after it has registered again", r.state)
	}
	s.helpers.Wait()
}
