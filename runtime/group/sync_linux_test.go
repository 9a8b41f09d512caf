package group

import (
	"log/slog"
	"os"
	"testing"
	"time"
)

// On a busy machine a process may have joined, and be in sync, before the
// supervisor gets to know that it has started. The notice is not repeated.
func TestSyncBeforeTheStartIsKnown(t *testing.T) {
	pidfd, life, err := os.Pipe() // readable when the process "ends"
	if err != nil {
		t.Fatal(err)
	}
	s := makeSupervisor(Config{Service: "svc", Replicas: 1, ReadyTimeout: time.Hour, Replication: new(Replication), Logger: slog.New(slog.DiscardHandler)},
		nil, nil, &page{mem: make([]byte, placeOffset(1))})
	r := s.replicas[0]
	r.state = starting
	s.reign = reign{epoch: 1, primary: 0}
	place := s.page.mem[placeOffset(0):]
	wordAt(place, offSynced).Store(1)
	wordAt(place, offSet).Store(packSet(1, 1))
	s.lookAtSync()
	if r.synced {
		t.Error("in sync without a process")
	}
	s.started(r, &process{pidfd: pidfd}, 0, nil)
	if !r.synced {
		t.Error("not seen to be in sync")
	}
	close(s.done)
	life.Close()
	s.helpers.Wait()
	s.launch.close()
	s.events.close()
}
