package group

import (
	"context"
	"errors"
	"fmt"
	"testing"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

func TestReasonOfAnError(t *testing.T) {
	remote := func(code ipc.Code) error {
		return fmt.Errorf("sent: %w", &ipc.Error{Code: code, Remote: true})
	}
	for _, test := range []struct {
		err  error
		want OutOfSyncReason
	}{
		{errGone, OutOfSyncGone},
		{fmt.Errorf("%w: change 3", errDiverged), OutOfSyncDiverged},
		{errBehind, OutOfSyncBacklog},
		{fmt.Errorf("%w: so", ErrIncompatible), OutOfSyncIncompatible},
		{remote(ipc.CodeIncompatible), OutOfSyncIncompatible},
		{&ipc.Error{Code: ipc.CodeIncompatible}, OutOfSyncIncompatible},
		{fmt.Errorf("%w: %w", errSnapshot, remote(ipc.CodeFailedPrecondition)), OutOfSyncSnapshot},
		{&ipc.Error{Code: ipc.CodeDeadlineExceeded, Err: context.DeadlineExceeded}, OutOfSyncLate},
		{&ipc.Error{Code: ipc.CodeCanceled, Err: errLate}, OutOfSyncLate},
		{remote(ipc.CodeDeadlineExceeded), OutOfSyncLate},
		{remote(ipc.CodeFailedPrecondition), OutOfSyncRefused},
		{remote(ipc.CodeFenced), OutOfSyncRefused},
		{fmt.Errorf("%w: 3 bytes", errPacket), OutOfSyncRefused},
		{&ipc.Error{Code: ipc.CodeCorrupt}, OutOfSyncRefused},
		{&ipc.Error{Code: ipc.CodeUnavailable}, OutOfSyncLinkEnded},
		{errors.New("anything else"), OutOfSyncLinkEnded},
	} {
		if got := reasonOf(test.err); got != test.want {
			t.Errorf("%v: %v", test.err, got)
		}
	}
	for r := range OutOfSyncReason(len(outOfSyncReasons) + 1) {
		if r.String() == "" {
			t.Errorf("reason %d has no text", r)
		}
	}
}

// A supervisor that looks late sees that a standby has left the set and joined it again.
func TestStampsAreOrdered(t *testing.T) {
	older := packStamp(1<<32+7, 41, OutOfSyncLate)
	newer := packStamp(1<<32+7, 42, OutOfSyncUnknown)
	if stampNumber(older, 1<<32+7) != 41 || stampReason(older) != OutOfSyncLate ||
		stampNumber(newer, 1<<32+7) != 42 || stampNumber(older, 1<<32+8) != 0 {
		t.Errorf("stamps %#x and %#x", older, newer)
	}
}
