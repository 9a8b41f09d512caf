package natsipc_test

import (
	"context"
	"fmt"
	"testing"

	natsipc "github.com/ipcgen/ipcgen/nats"
)

// Members of a new group join at the same time, at first those of a cluster that has no leader yet.
// The servers leave a request for a stream without an answer while they make it for another member.
func TestGroupJoinTogether(t *testing.T) {
	const members = 3
	url := benchServers(t, 3, false)
	ctx, cancel := context.WithTimeout(t.Context(), groupWatchdog)
	defer cancel()
	for round := range 3 {
		type joined struct {
			member *natsipc.Member
			err    error
		}
		all := make(chan joined, members)
		for i := range members {
			nc, l := benchConn(t, url), &list{}
			cfg := listConfig(fmt.Sprint("m", i), l)
			cfg.Group, cfg.Replicas = fmt.Sprint("test.together", round), 3
			go func() {
				m, err := natsipc.JoinGroup(ctx, nc, cfg, l.service())
				all <- joined{m, err}
			}()
		}
		for range members {
			j := <-all
			if j.err != nil {
				t.Errorf("round %d: %v", round, j.err)
				continue
			}
			defer closeMember(t, j.member)
		}
	}
}
