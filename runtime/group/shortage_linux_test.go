package group_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/sys"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// childStarved is a supervisor, and a client, whose user can have no inotify instance, or no watch,
// or no more of either, while primaries die. Later the user can again.
func childStarved(args []string) error {
	limit := "/proc/sys/user/" + args[1]
	set := func(n string) error { return os.WriteFile(limit, []byte(n), 0) }
	if err := set("0"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cfg := listConfig(args[0], 2)
	// No standby is dropped because the machine is busy.
	cfg.Replication.AckTimeout, cfg.Replication.SyncTimeout = patience, patience
	var events eventLog
	cfg.Events = events.add
	g, err := group.Start(ctx, cfg)
	if err != nil {
		return err
	}
	defer g.Shutdown(context.Background())
	c, err := group.Dial(ctx, "list", group.DialConfig{Domain: args[0], Patience: patience})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := sys.WatchTrouble(); err == nil || !strings.Contains(err.Error(), args[2]) {
		return fmt.Errorf("the trouble is said to be: %v", err)
	}
	for round := range uint64(4) {
		if round == 2 {
			if err := set("100"); err != nil {
				return err
			}
			for sys.WatchTrouble() != nil {
				if ctx.Err() != nil {
					return sys.WatchTrouble()
				}
				time.Sleep(time.Millisecond)
			}
		}
		rep, err := ipc.Invoke(ctx, c, methodAppend, &words{round})
		if err != nil || (*rep)[0] != round+1 {
			return fmt.Errorf("round %d: %v, %v\n%v", round, rep, err, &events)
		}
		before := g.Status()
		if err := syscall.Kill(before.Replicas[before.Primary].PID, syscall.SIGKILL); err != nil {
			return err
		}
		if s, err := g.WaitHealthy(ctx, before.Epoch); err != nil {
			return fmt.Errorf("round %d: %+v, %w\n%v", round, s, err, &events)
		}
	}
	g.Shutdown(context.Background())
	// Only dead processes may have fallen out of sync.
	fell := slices.ContainsFunc(events.all, func(ev group.Event) bool {
		var why *group.OutOfSyncError
		return errors.As(ev.Err, &why) && why.Reason != group.OutOfSyncGone
	})
	if fell || events.has(group.StateLost) || events.has(group.Suspected) {
		return errors.New(events.String())
	}
	return nil
}

func init() { children["starved"] = childStarved }

func TestGroupOutlivesShortageOfWatches(t *testing.T) {
	for limit, advice := range map[string]string{
		"max_inotify_instances": "fs.inotify.max_user_instances",
		"max_inotify_watches":   "fs.inotify.max_user_watches",
	} {
		t.Run(limit, func(t *testing.T) {
			t.Parallel()
			if out, err := exec.Command("unshare", "-rU", "sh", "-c", "echo 0 > /proc/sys/user/"+
				limit).CombinedOutput(); err != nil {
				t.Skipf("no user namespace can be had here: %v: %s", err, out)
			}
			child := childCommand("starved", newDomain(t), limit, advice)
			cmd := exec.Command("unshare", append([]string{"-rU"}, child.Args...)...)
			cmd.Env = child.Env
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}
