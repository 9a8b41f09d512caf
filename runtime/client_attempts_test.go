package ipc_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// TestAttempts has attempts fail in turn: whether another may follow, and what the whole is.
func TestAttempts(t *testing.T) {
	fail := func(c ipc.Code, o ipc.Outcome) error { return &ipc.Error{Code: c, Outcome: o} }
	plain := &ipc.MethodInfo{Name: "Plain", Protocol: &ipc.Protocol{Name: "p.P"}}
	idempotent := &ipc.MethodInfo{Name: "Idempotent", Protocol: plain.Protocol, Idempotent: true}
	readOnly := &ipc.MethodInfo{Name: "ReadOnly", Protocol: plain.Protocol, ReadOnly: true}
	for _, tt := range []struct {
		m      *ipc.MethodInfo
		errs   []error
		again  string // of each attempt: y or n
		joint  ipc.Outcome
		beyond string // in the text of the error
	}{
		{plain, []error{fail(ipc.CodeUnavailable, ipc.NotSent)}, "y", ipc.NotSent, ""},
		{plain, []error{fail(ipc.CodeFenced, ipc.NotExecuted)}, "y", ipc.NotExecuted, ""},
		{plain, []error{fail(ipc.CodeUnavailable, ipc.OutcomeUnknown)}, "n", ipc.OutcomeUnknown,
			""},
		{plain, []error{fail(ipc.CodeInvalidArgument, ipc.NotExecuted)}, "n", ipc.NotExecuted, ""},
		{plain, []error{fail(ipc.CodeUnavailable, ipc.Executed)}, "n", ipc.Executed, ""},
		{plain, []error{errors.New("some other error")}, "n", ipc.OutcomeUnknown, "call p.P/Plain"},
		{plain, []error{fail(ipc.CodeUnavailable, ipc.NotExecuted),
			fail(ipc.CodeFenced, ipc.NotSent)}, "yy", ipc.NotExecuted, ""},
		{idempotent, []error{fail(ipc.CodeUnavailable, ipc.OutcomeUnknown),
			fail(ipc.CodeFenced, ipc.NotExecuted)}, "yy", ipc.OutcomeUnknown, ""},
		{idempotent, []error{fail(ipc.CodeUnavailable, ipc.OutcomeUnknown),
			fail(ipc.CodeInvalidArgument, ipc.Executed)}, "yn", ipc.Executed, ""},
		{readOnly, []error{fail(ipc.CodeUnavailable, ipc.OutcomeUnknown),
			fail(ipc.CodeUnavailable, ipc.OutcomeUnknown)}, "yn", ipc.OutcomeUnknown,
			"2 servers were lost while they had this call, which may be what ends them: s0, s1"},
		{readOnly, []error{fail(ipc.CodeFenced, ipc.OutcomeUnknown),
			fail(ipc.CodeFenced, ipc.OutcomeUnknown)}, "yy", ipc.OutcomeUnknown, ""},
	} {
		var a ipc.Attempts
		if a.Outcome() != ipc.NotSent {
			t.Errorf("before the first attempt: %v", a.Outcome())
		}
		again := ""
		var err error
		for i, e := range tt.errs {
			a.Next(ipc.Call{Method: tt.m})
			if a.Failed(e, tt.m, fmt.Sprint("s", i)) {
				again += "y"
			} else {
				again += "n"
			}
			err = a.Err(e, tt.m)
			if ipc.CodeOf(err) != ipc.CodeOf(e) {
				t.Errorf("%v became %v", e, err)
			}
		}
		if again != tt.again || a.Outcome() != tt.joint || ipc.OutcomeOf(err) != tt.joint ||
			!strings.Contains(err.Error(), tt.beyond) {
			t.Errorf("%s, %v: again %s, outcome %v, error %v", tt.m.Name, tt.errs, again,
				a.Outcome(), err)
		}
	}
}

// TestAttemptsOfStreams has attempts fail before and after the code of the user has seen something
// of them.
func TestAttemptsOfStreams(t *testing.T) {
	m := &ipc.MethodInfo{Name: "Both", Protocol: &ipc.Protocol{Name: "p.P"},
		Streaming: ipc.BidiStreaming}
	refused := &ipc.Error{Code: ipc.CodeUnavailable, Outcome: ipc.NotExecuted}
	ranged, taken := 0, 0
	call := ipc.Call{Method: m,
		In:  func(func(any, error) bool) { ranged++ },
		Out: func(any) bool { taken++; return true }}
	var a ipc.Attempts
	late := a.Next(call)
	if !a.Failed(refused, m, "s") {
		t.Error("an attempt that has not begun ends the call")
	}
	late.In(nil) // behind its failure
	if ranged != 0 {
		t.Error("an attempt begins behind its failure")
	}
	a.Next(call).In(nil)
	if a.Failed(refused, m, "s") || ranged != 1 {
		t.Errorf("the source has begun %d times, and may begin again", ranged)
	}
	a = ipc.Attempts{}
	a.Next(call).Out(nil)
	if a.Failed(refused, m, "s") || taken != 1 {
		t.Errorf("%d items were handed out, and may come again", taken)
	}
}

// TestAttemptsOfMessages: a message is never sent twice.
func TestAttemptsOfMessages(t *testing.T) {
	for _, code := range []ipc.Code{ipc.CodeUnavailable, ipc.CodeFenced} {
		for _, o := range []ipc.Outcome{ipc.OutcomeUnknown, ipc.NotSent, ipc.NotExecuted,
			ipc.Executed} {
			var a ipc.Attempts
			again := a.MessageFailed(&ipc.Error{Code: code, Outcome: o})
			if want := code == ipc.CodeUnavailable && o == ipc.NotSent; again != want ||
				a.Outcome() != o {
				t.Errorf("%v, %v: again %v, outcome %v", code, o, again, a.Outcome())
			}
		}
	}
}

// TestAttemptsTried gives up a call: the cause is that of the last attempt, and states no outcome
// beside that of the whole.
func TestAttemptsTried(t *testing.T) {
	var a ipc.Attempts
	if err := a.Tried(time.Second); err != nil {
		t.Errorf("nothing was tried, and the error is %v", err)
	}
	m := &ipc.MethodInfo{Name: "Plain", Protocol: &ipc.Protocol{Name: "p.P"}}
	last := &ipc.Error{Code: ipc.CodeFenced, Outcome: ipc.NotExecuted, Msg: "the last"}
	for _, err := range []error{&ipc.Error{Code: ipc.CodeUnavailable, Outcome: ipc.NotSent}, last} {
		a.Failed(err, m, "s")
	}
	err := a.Tried(time.Second)
	if ipc.CodeOf(err) != ipc.CodeFenced || ipc.OutcomeOf(err) != ipc.OutcomeUnknown ||
		!strings.Contains(err.Error(), "tried for 1s: ") ||
		!strings.Contains(err.Error(), "the last") {
		t.Errorf("error %v", err)
	}
	if last.Outcome != ipc.NotExecuted {
		t.Error("the error of the attempt was changed")
	}
}
