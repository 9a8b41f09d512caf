package group_test

import (
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/runtime/group"
)

func TestRunAloneNeedsChannel(t *testing.T) {
	cfg := group.RunConfig{Join: group.JoinConfig{Domain: newDomain(t)}}
	err := group.Run(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "group.Start") ||
		!strings.Contains(err.Error(), "Record.Control") {
		t.Errorf("without a supervisor and without a channel: %v", err)
	}
}
