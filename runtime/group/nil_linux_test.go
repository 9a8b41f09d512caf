package group_test

import (
	"context"
	"errors"
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// TestNilIsAnError gives nil, or nothing, wherever the API takes a value. Each operation returns an
// error that says what to do, and none panics.
func TestNilIsAnError(t *testing.T) {
	cfg := bareConfig(newDomain(t))
	g := startGroup(t, cfg)
	var noGroup *group.Group
	var noClient *group.Client
	var noReplica *group.Replica
	var noOperator *group.Operator
	var noContext context.Context
	ctx := t.Context()
	err := func(_ any, err error) error { return err }
	for name, got := range map[string]error{
		"Start without a context":       err(group.Start(noContext, cfg)),
		"Dial without a context":        err(group.Dial(noContext, "svc", group.DialConfig{})),
		"Run without a context":         group.Run(noContext, group.RunConfig{}),
		"Run of nil":                    group.Run(ctx, group.RunConfig{}, nil),
		"Roll to nil":                   g.Roll(ctx, nil),
		"Roll without a context":        g.Roll(noContext, cfg.Command),
		"Failover without a context":    err(g.Failover(noContext)),
		"Wait without a context":        err(g.Wait(noContext, group.Status.Healthy)),
		"Wait for nil":                  err(g.Wait(ctx, nil)),
		"WaitHealthy without a context": err(g.WaitHealthy(noContext, 0)),
		"Shutdown without a context":    g.Shutdown(noContext),
		"Roll of nil":                   noGroup.Roll(ctx, cfg.Command),
		"Roll of nothing":               new(group.Group).Roll(ctx, cfg.Command),
		"Failover of nil":               err(noGroup.Failover(ctx)),
		"Wait of nil":                   err(noGroup.Wait(ctx, group.Status.Healthy)),
		"Shutdown of nil":               noGroup.Shutdown(ctx),
		"Shutdown of nothing":           new(group.Group).Shutdown(ctx),
		"Close of no client":            noClient.Close(),
		"WaitConnected of no client":    err(noClient.WaitConnected(ctx)),
		"Announce of no replica":        noReplica.Announce(registry.Record{}),
		"Admit of no replica":           noReplica.Admit(0),
		"Close of no replica":           noReplica.Close(),
		"Close of no operator":          noOperator.Close(),
		"Roll of no operator":           err(noOperator.Roll(ctx)),
		"DialSupervisor without a context": err(group.DialSupervisor(noContext, "svc",
			cfg.Domain)),
	} {
		var typed *ipc.Error
		if !errors.As(got, &typed) || typed.Code != ipc.CodeInvalidArgument ||
			typed.Outcome != ipc.NotSent {
			t.Errorf("%s: %v", name, got)
		}
	}
	<-noGroup.Done()
	if _, ok := noGroup.Primary(); ok || len(noGroup.Replicas()) > 0 {
		t.Error("a nil group has a primary or replicas")
	}
	if noReplica.Supervised() || noReplica.Index() != -1 || noReplica.Name() != "" ||
		noReplica.Epoch() != 0 {
		t.Error("a nil replica is something")
	}
	if role, epoch := noReplica.Role(); role != registry.RoleNone || epoch != 0 {
		t.Errorf("a nil replica is %v in epoch %d", role, epoch)
	}
	ipc.NewServer(noReplica.ServerOptions()...)
	if s, err := g.WaitHealthy(ctx, 0); err != nil || s.Epoch != 1 {
		t.Errorf("status %+v, %v", s, err) // none of it had an effect
	}
}
