package grpctest

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strings"
	"testing"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ipcgen/ipcgen/internal/gogen/grpctest/gen/MyGame/Example"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// A river implements the methods that stream. What a call does is the id or the first name.
type river struct {
	Example.UnimplementedMonsterStorage
	seen chan error                               // why a handler's context, or in, ended
	kept chan iter.Seq2[*Example.MonsterT, error] // by a call that has ended
}

func newRiver() *river {
	return &river{seen: make(chan error, 10),
		kept: make(chan iter.Seq2[*Example.MonsterT, error], 1)}
}

func (r *river) Retrieve(ctx context.Context,
	s *Example.StatT) iter.Seq2[*Example.MonsterT, error] {
	if s.Id == "no sequence" {
		return nil
	}
	return func(yield func(*Example.MonsterT, error) bool) {
		switch s.Id {
		case "panic":
			panic("a bug")
		case "nothing":
			yield(nil, nil)
			return
		case "deaf": // it ignores that the call has ended
			for ctx.Err() == nil {
				yield(&Example.MonsterT{Name: "more"}, nil)
			}
			yield(&Example.MonsterT{Name: "still more"}, nil)
			r.seen <- ctx.Err()
			return
		case "endless":
			for yield(&Example.MonsterT{Name: "more"}, nil) {
			}
			<-ctx.Done()
			r.seen <- ctx.Err()
			return
		}
		for i := range s.Val {
			if !yield(&Example.MonsterT{Name: fmt.Sprint(s.Id, " ", i)}, nil) {
				return
			}
		}
		if s.Id == "fails" {
			yield(nil, ipc.Errorf(ipc.CodeNotFound, "only %d", s.Val))
		}
	}
}

func (r *river) GetMaxHitPoint(ctx context.Context,
	in iter.Seq2[*Example.MonsterT, error]) (*Example.StatT, error) {
	var names []string
	for m, err := range in {
		if err != nil {
			r.seen <- err
			return nil, err
		}
		names = append(names, m.Name)
		switch m.Name {
		case "enough":
			return &Example.StatT{Id: "early"}, nil
		case "pause": // another range goes on behind it
			for m, err := range in {
				if err != nil {
					return nil, err
				}
				names = append(names, "after the pause: "+m.Name)
			}
			for range in {
				names = append(names, "after the end")
			}
			return &Example.StatT{Id: strings.Join(names, ", ")}, nil
		case "keep":
			r.kept <- in
			return &Example.StatT{}, nil
		case "nothing":
			return nil, nil
		}
	}
	return &Example.StatT{Id: strings.Join(names, ", ")}, nil
}

func (r *river) GetMinMaxHitPoints(ctx context.Context,
	in iter.Seq2[*Example.MonsterT, error]) iter.Seq2[*Example.StatT, error] {
	return func(yield func(*Example.StatT, error) bool) {
		for m, err := range in {
			switch {
			case err != nil:
				r.seen <- err
				yield(nil, err)
				return
			case m.Name == "panic":
				panic("a bug")
			case m.Name == "fail":
				yield(nil, ipc.Errorf(ipc.CodePermissionDenied, "not yours"))
				return
			}
			if !yield(&Example.StatT{Id: m.Name}, nil) {
				return
			}
		}
		yield(&Example.StatT{Id: "the end"}, nil)
	}
}

// serveRiver offers one implementation by gRPC.
func serveRiver(t *testing.T, r *river) Example.MonsterStorageClient {
	return Example.NewMonsterStorageClient(start(t, func(s grpc.ServiceRegistrar) {
		Example.RegisterMonsterStorageServer(s, Example.NewMonsterStorageServer(r))
	}))
}

func statWith(id string, val int64) *flatbuffers.Builder {
	b := flatbuffers.NewBuilder(0)
	b.Finish((&Example.StatT{Id: id, Val: val}).Pack(b))
	return b
}

// overGRPC is a client of gRPC with the interface that implementations have.
type overGRPC struct {
	Example.UnimplementedMonsterStorage
	c Example.MonsterStorageClient
}

func (o overGRPC) Retrieve(ctx context.Context,
	s *Example.StatT) iter.Seq2[*Example.MonsterT, error] {
	return func(yield func(*Example.MonsterT, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		list, err := o.c.Retrieve(ctx, statWith(s.Id, s.Val))
		for err == nil {
			var m *Example.Monster
			if m, err = list.Recv(); err == nil && !yield(m.UnPack(), nil) {
				return
			}
		}
		if err != io.EOF {
			yield(nil, err)
		}
	}
}

func (o overGRPC) GetMaxHitPoint(ctx context.Context,
	in iter.Seq2[*Example.MonsterT, error]) (*Example.StatT, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sum, err := o.c.GetMaxHitPoint(ctx)
	if err != nil {
		return nil, err
	}
	for m := range in {
		if sum.Send(monster(m.Name)) != nil {
			break
		}
	}
	s, err := sum.CloseAndRecv()
	if err != nil {
		return nil, err
	}
	return s.UnPack(), nil
}

func (o overGRPC) GetMinMaxHitPoints(ctx context.Context,
	in iter.Seq2[*Example.MonsterT, error]) iter.Seq2[*Example.StatT, error] {
	return func(yield func(*Example.StatT, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		talk, err := o.c.GetMinMaxHitPoints(ctx)
		if err == nil {
			go func() {
				for m := range in {
					if talk.Send(monster(m.Name)) != nil {
						return
					}
				}
				_ = talk.CloseSend()
			}()
		}
		for err == nil {
			var s *Example.Stat
			if s, err = talk.Recv(); err == nil && !yield(s.UnPack(), nil) {
				return
			}
		}
		if err != io.EOF {
			yield(nil, err)
		}
	}
}

// codeOf returns the status code of an error of either protocol.
func codeOf(err error) codes.Code {
	if _, ok := status.FromError(err); ok {
		return status.Code(err)
	}
	return codes.Code(ipc.CodeOf(err).GRPC())
}

func monsters(names ...string) iter.Seq2[*Example.MonsterT, error] {
	return func(yield func(*Example.MonsterT, error) bool) {
		for _, name := range names {
			if !yield(&Example.MonsterT{Name: name}, nil) {
				return
			}
		}
	}
}

// TestOneImplementationStreamsByBoth offers one implementation of all kinds of streaming by this
// module's protocol and by gRPC. Both behave alike.
func TestOneImplementationStreamsByBoth(t *testing.T) {
	r := newRiver()
	for name, c := range map[string]Example.MonsterStorage{
		"ipcgen": Example.NewMonsterStorageIPCClient(ipctest.Pipe(t,
			Example.NewMonsterStorageService(r))),
		"gRPC": overGRPC{c: serveRiver(t, r)},
	} {
		t.Run(name, func(t *testing.T) { streamAll(t, r, c) })
	}
}

func streamAll(t *testing.T, r *river, c Example.MonsterStorage) {
	ctx := testContext(t)
	// ended expects a handler to learn that its call has ended.
	ended := func(what string, want codes.Code) {
		t.Helper()
		select {
		case err := <-r.seen:
			if got := codes.Code(ipc.CodeOf(err).GRPC()); got != want {
				t.Errorf("%s: the handler has seen %v, want %v", what, err, want)
			}
		case <-ctx.Done():
			t.Fatalf("%s: the handler has not learnt that the call has ended", what)
		}
	}
	retrieve := func(id string, n int64) (got []string, err error) {
		for m, err := range c.Retrieve(ctx, &Example.StatT{Id: id, Val: n}) {
			if err != nil {
				return got, err
			}
			got = append(got, m.Name)
		}
		return got, nil
	}
	got, err := retrieve("m", 5000)
	for i, name := range got {
		if name != fmt.Sprint("m ", i) {
			t.Fatalf("item %d is %q", i, name)
		}
	}
	if len(got) != 5000 || err != nil {
		t.Errorf("%d items, %v", len(got), err)
	}
	got, err = retrieve("fails", 3)
	if len(got) != 3 || codeOf(err) != codes.NotFound || !strings.Contains(fmt.Sprint(err),
		"only 3") {
		t.Errorf("%q, %v", got, err)
	}
	for _, id := range []string{"panic", "nothing", "no sequence"} {
		if got, err := retrieve(id, 0); len(got) != 0 || codeOf(err) != codes.Internal {
			t.Errorf("%s: %q, %v", id, got, err)
		}
	}
	for _, id := range []string{"endless", "deaf"} {
		n := 0
		for _, err := range c.Retrieve(ctx, &Example.StatT{Id: id}) {
			if n++; err != nil {
				t.Error(err)
			} else if n == 3 {
				break
			}
		}
		ended(id, codes.Canceled)
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	for _, err = range c.Retrieve(short, &Example.StatT{Id: "endless"}) {
	}
	if codeOf(err) != codes.DeadlineExceeded {
		t.Errorf("a deadline: %v", err)
	}
	select { // on a slow machine the deadline may pass before the handler begins
	case err := <-r.seen:
		if code := ipc.CodeOf(err); code != ipc.CodeDeadlineExceeded && code != ipc.CodeCanceled {
			t.Errorf("a deadline: the handler has seen %v", err)
		}
	case <-time.After(5 * time.Second):
	}

	collect := func(names ...string) (string, codes.Code) {
		s, err := c.GetMaxHitPoint(ctx, monsters(names...))
		if err != nil {
			return "", codeOf(err)
		}
		return s.Id, codes.OK
	}
	for _, test := range []struct {
		names []string
		want  string
		code  codes.Code
	}{
		{nil, "", codes.OK},
		{[]string{"a", "b", "c"}, "a, b, c", codes.OK},
		{[]string{"pause", "d", "e"}, "pause, after the pause: d, after the pause: e", codes.OK},
		{[]string{"enough", "f"}, "early", codes.OK},
		{[]string{"nothing"}, "", codes.Internal},
	} {
		if got, code := collect(test.names...); got != test.want || code != test.code {
			t.Errorf("%q: %q, %v", test.names, got, code)
		}
	}
	collect("keep")
	after := 0
	for m, err := range <-r.kept {
		if after++; m != nil || ipc.CodeOf(err) != ipc.CodeFailedPrecondition {
			t.Errorf("after the call: %v, %v", m, err)
		}
	}
	if after != 1 {
		t.Errorf("after the call, in yields %d times", after)
	}
	leave, cancel := context.WithCancel(ctx)
	_, err = c.GetMaxHitPoint(leave, func(yield func(*Example.MonsterT, error) bool) {
		yield(&Example.MonsterT{}, nil)
		cancel()
		<-leave.Done()
	})
	if codeOf(err) != codes.Canceled {
		t.Errorf("a client that gives up: %v", err)
	}
	for len(r.seen) > 0 { // the handler may not have begun
		<-r.seen
	}

	talk := func(names ...string) (got []string, err error) {
		for s, err := range c.GetMinMaxHitPoints(ctx, monsters(names...)) {
			if err != nil {
				return got, err
			}
			got = append(got, s.Id)
		}
		return got, nil
	}
	if got, err := talk("x", "y"); fmt.Sprint(got) != "[x y the end]" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := talk("x", "fail", "z"); fmt.Sprint(got) != "[x]" ||
		codeOf(err) != codes.PermissionDenied {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := talk("x", "panic"); fmt.Sprint(got) != "[x]" || codeOf(err) != codes.Internal {
		t.Errorf("%q, %v", got, err)
	}
	// The answer to an item comes before the next one is sent.
	answers := make(chan string, 1)
	n := 0
	for s, err := range c.GetMinMaxHitPoints(ctx, func(yield func(*Example.MonsterT, error) bool) {
		last := "begin"
		for i := 0; ; i++ {
			if !yield(&Example.MonsterT{Name: fmt.Sprint(i, " after ", last)}, nil) {
				return
			}
			select {
			case last = <-answers:
			case <-ctx.Done():
				return
			}
		}
	}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 20 {
			break // and leaves in alone
		}
		answers <- fmt.Sprint(len(s.Id))
	}
	ended("a talk that is left", codes.Canceled)
}

// TestDamagedItems sends an item that an accessor could not read to an implementation that gRPC
// offers.
func TestDamagedItems(t *testing.T) {
	r := newRiver()
	c := serveRiver(t, r)
	ctx := testContext(t)
	talk, err := c.GetMinMaxHitPoints(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*flatbuffers.Builder{monster("fine"), damaged("m")} {
		if err := talk.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := talk.Recv(); err != nil || string(s.Id()) != "fine" {
		t.Error(err)
	}
	_, err = talk.Recv()
	wantCode(t, "a damaged item", err, codes.InvalidArgument)
	wantCode(t, "the handler", <-r.seen, codes.InvalidArgument)
}
