package grpctest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	flatc "github.com/ipcgen/ipcgen/internal/gogen/grpctest/flatc/MyGame/Example"
	"github.com/ipcgen/ipcgen/internal/gogen/grpctest/gen/MyGame/Example"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// TestGeneratedCodeIsCurrent checks that the committed code is what -grpc writes.
func TestGeneratedCodeIsCurrent(t *testing.T) {
	out, err := exec.Command("go", "tool", "ipcgen", "-check", "-grpc", "-o", "gen", "storage.fbs",
		"names.fbs").CombinedOutput()
	if err != nil {
		t.Errorf("%v; go generate writes it\n%s", err, out)
	}
}

// start serves over the loopback interface and returns a connection to it.
func start(t *testing.T, register func(grpc.ServiceRegistrar),
	opts ...grpc.ServerOption) *grpc.ClientConn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(append(opts, grpc.ForceServerCodec(flatbuffers.FlatbuffersCodec{}))...)
	register(s)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	conn, err := grpc.NewClient(l.Addr().String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(flatbuffers.FlatbuffersCodec{})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		s.Stop()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	return conn
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// monster and stat build messages, which are the same for both sides' code.
func monster(name string) *flatbuffers.Builder {
	b := flatbuffers.NewBuilder(0)
	b.Finish((&Example.MonsterT{Name: name}).Pack(b))
	return b
}

func stat(id string) *flatbuffers.Builder {
	b := flatbuffers.NewBuilder(0)
	b.Finish((&Example.StatT{Id: id}).Pack(b))
	return b
}

// The messages and streams of either side.
type (
	named      interface{ Name() []byte }
	identified interface{ Id() []byte }

	receiver[M any] interface{ Recv() (M, error) }
	exchange[M any] interface {
		Send(*flatbuffers.Builder) error
		Recv() (M, error)
		CloseSend() error
	}
	collector[M any] interface {
		Send(*flatbuffers.Builder) error
		CloseAndRecv() (M, error)
	}
	client[M, S, R, C, X any] interface {
		Store(context.Context, *flatbuffers.Builder, ...grpc.CallOption) (S, error)
		Retrieve(context.Context, *flatbuffers.Builder, ...grpc.CallOption) (R, error)
		GetMaxHitPoint(context.Context, ...grpc.CallOption) (C, error)
		GetMinMaxHitPoints(context.Context, ...grpc.CallOption) (X, error)
	}
)

// callAll makes a call of each of the four kinds. The servers answer with what
// they got.
func callAll[M named, S identified, R receiver[M], C collector[S], X exchange[S]](t *testing.T,
	c client[M, S, R, C, X]) {
	t.Helper()
	ctx := testContext(t)
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	equal := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}

	s, err := c.Store(ctx, monster("one"))
	check("store", err)
	equal("store", string(s.Id()), "one")

	list, err := c.Retrieve(ctx, stat("three"))
	check("retrieve", err)
	for i := range 3 {
		m, err := list.Recv()
		check("retrieve", err)
		equal("retrieve", string(m.Name()), fmt.Sprint("three ", i))
	}
	if _, err := list.Recv(); err != io.EOF {
		t.Errorf("retrieve ends with %v", err)
	}

	sum, err := c.GetMaxHitPoint(ctx)
	check("collect", err)
	for _, name := range []string{"a", "b", "c"} {
		check("collect", sum.Send(monster(name)))
	}
	s, err = sum.CloseAndRecv()
	check("collect", err)
	equal("collect", string(s.Id()), "a b c")

	talk, err := c.GetMinMaxHitPoints(ctx)
	check("talk", err)
	for _, name := range []string{"x", "y"} {
		check("talk", talk.Send(monster(name)))
		s, err := talk.Recv()
		check("talk", err)
		equal("talk", string(s.Id()), name)
	}
	check("talk", talk.CloseSend())
	if _, err := talk.Recv(); err != io.EOF {
		t.Errorf("the talk ends with %v", err)
	}
}

// The parts that both servers have in common.
func sendThree(id string, send func(*flatbuffers.Builder) error) error {
	for i := range 3 {
		if err := send(monster(fmt.Sprint(id, " ", i))); err != nil {
			return err
		}
	}
	return nil
}

func collect[M named](recv func() (M, error), reply func(*flatbuffers.Builder) error) error {
	var names []string
	for {
		m, err := recv()
		if err == io.EOF {
			return reply(stat(strings.Join(names, " ")))
		}
		if err != nil {
			return err
		}
		names = append(names, string(m.Name()))
	}
}

func echo[M named](recv func() (M, error), send func(*flatbuffers.Builder) error) error {
	for {
		m, err := recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := send(stat(string(m.Name()))); err != nil {
			return err
		}
	}
}

// ours implements the server that ipcgen wrote.
type ours struct {
	Example.UnimplementedMonsterStorageServer
}

func (ours) Store(_ context.Context, m *Example.Monster) (*flatbuffers.Builder, error) {
	return stat(string(m.Name())), nil
}

func (ours) Retrieve(s *Example.Stat, out Example.MonsterStorage_RetrieveServer) error {
	return sendThree(string(s.Id()), out.Send)
}

func (ours) GetMaxHitPoint(in Example.MonsterStorage_GetMaxHitPointServer) error {
	return collect(in.Recv, in.SendAndClose)
}

func (ours) GetMinMaxHitPoints(x Example.MonsterStorage_GetMinMaxHitPointsServer) error {
	return echo(x.Recv, x.Send)
}

// theirs implements the server that flatc wrote, with the same text.
type theirs struct {
	flatc.UnimplementedMonsterStorageServer
}

func (theirs) Store(_ context.Context, m *flatc.Monster) (*flatbuffers.Builder, error) {
	return stat(string(m.Name())), nil
}

func (theirs) Retrieve(s *flatc.Stat, out flatc.MonsterStorage_RetrieveServer) error {
	return sendThree(string(s.Id()), out.Send)
}

func (theirs) GetMaxHitPoint(in flatc.MonsterStorage_GetMaxHitPointServer) error {
	return collect(in.Recv, in.SendAndClose)
}

func (theirs) GetMinMaxHitPoints(x flatc.MonsterStorage_GetMinMaxHitPointsServer) error {
	return echo(x.Recv, x.Send)
}

func serveOurs(r grpc.ServiceRegistrar)   { Example.RegisterMonsterStorageServer(r, ours{}) }
func serveTheirs(r grpc.ServiceRegistrar) { flatc.RegisterMonsterStorageServer(r, theirs{}) }

// TestAllKindsOfCalls makes calls of the four kinds between ipcgen's code and
// flatc's, in each combination.
func TestAllKindsOfCalls(t *testing.T) {
	for name, register := range map[string]func(grpc.ServiceRegistrar){
		"ours": serveOurs, "flatc's": serveTheirs,
	} {
		t.Run("client ours, server "+name, func(t *testing.T) {
			callAll(t, Example.NewMonsterStorageClient(start(t, register)))
		})
		t.Run("client flatc's, server "+name, func(t *testing.T) {
			callAll(t, flatc.NewMonsterStorageClient(start(t, register)))
		})
	}
}

// TestInterceptors has calls pass through a server's interceptors.
func TestInterceptors(t *testing.T) {
	var seen []string
	conn := start(t, serveOurs,
		grpc.UnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo,
			handler grpc.UnaryHandler) (any, error) {
			seen = append(seen, info.FullMethod+" "+string(req.(*Example.Monster).Name()))
			return handler(ctx, req)
		}))
	if _, err := Example.NewMonsterStorageClient(conn).Store(testContext(t),
		monster("m")); err != nil {
		t.Fatal(err)
	}
	if want := []string{"/MyGame.Example.MonsterStorage/Store m"}; !slices.Equal(seen, want) {
		t.Errorf("seen: %q", seen)
	}
}

// damaged is a message whose name lies outside of it.
func damaged(name string) *flatbuffers.Builder {
	b := monster(name)
	var m Example.Monster
	buf := b.FinishedBytes()
	m.Init(buf, flatbuffers.GetUOffsetT(buf))
	table := m.Table()
	at := table.Pos + flatbuffers.UOffsetT(table.Offset(8)) // the slot of name
	flatbuffers.WriteUOffsetT(buf[at:], 1<<30)
	return b
}

// TestDamagedMessages sends messages that an accessor could not read. They must
// be refused, and the next call answered.
func TestDamagedMessages(t *testing.T) {
	ctx := testContext(t)
	conn := start(t, serveOurs)
	c := Example.NewMonsterStorageClient(conn)

	_, err := c.Store(ctx, damaged("m"))
	wantCode(t, "store", err, codes.InvalidArgument)

	list, err := c.Retrieve(ctx, damaged("m"))
	if err == nil {
		_, err = list.Recv()
	}
	wantCode(t, "retrieve", err, codes.InvalidArgument)

	sum, err := c.GetMaxHitPoint(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := sum.Send(damaged("m")); err != nil {
		t.Fatal(err)
	}
	_, err = sum.CloseAndRecv()
	wantCode(t, "collect", err, codes.InvalidArgument)

	talk, err := c.GetMinMaxHitPoints(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := talk.Send(damaged("m")); err != nil {
		t.Fatal(err)
	}
	_, err = talk.Recv()
	wantCode(t, "talk", err, codes.InvalidArgument)

	callAll(t, c)
}

// liar answers with damaged messages.
type liar struct {
	Example.UnimplementedMonsterStorageServer
}

func (liar) Store(context.Context, *Example.Monster) (*flatbuffers.Builder, error) {
	return damaged("s"), nil
}

func (liar) Retrieve(_ *Example.Stat, out Example.MonsterStorage_RetrieveServer) error {
	return out.Send(damaged("m"))
}

func (liar) GetMaxHitPoint(in Example.MonsterStorage_GetMaxHitPointServer) error {
	return in.SendAndClose(damaged("s"))
}

func (liar) GetMinMaxHitPoints(x Example.MonsterStorage_GetMinMaxHitPointsServer) error {
	return x.Send(damaged("s"))
}

// TestDamagedReplies calls a server whose replies no accessor could read.
func TestDamagedReplies(t *testing.T) {
	ctx := testContext(t)
	c := Example.NewMonsterStorageClient(start(t, func(r grpc.ServiceRegistrar) {
		Example.RegisterMonsterStorageServer(r, liar{})
	}))
	_, err := c.Store(ctx, monster("m"))
	wantCode(t, "store", err, codes.Internal)
	list, err := c.Retrieve(ctx, stat("s"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = list.Recv()
	wantCode(t, "retrieve", err, codes.Internal)
	sum, err := c.GetMaxHitPoint(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, err = sum.CloseAndRecv()
	wantCode(t, "collect", err, codes.Internal)
	talk, err := c.GetMinMaxHitPoints(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, err = talk.Recv()
	wantCode(t, "talk", err, codes.Internal)
}

func wantCode(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if status.Code(err) != want {
		t.Errorf("%s: %v, want the code %v", what, err, want)
	}
}

// A storage implements the services of this module's own protocol, which gRPC
// shall offer too.
type storage struct {
	Example.UnimplementedMonsterStorage
}

func (storage) Store(ctx context.Context, m *Example.MonsterT) (*Example.StatT, error) {
	switch m.Name {
	case "nobody":
		return nil, ipc.Errorf(ipc.CodeNotFound, "there is no %s", m.Name)
	case "stranger":
		return nil, status.Error(codes.Unauthenticated, "who is it?")
	case "plain":
		return nil, errors.New("a plain error")
	case "fine":
		return nil, &ipc.Error{Code: ipc.CodeOK, Msg: "nothing is wrong"}
	case "slow":
		<-ctx.Done()
		return nil, ctx.Err()
	case "nothing":
		return nil, nil
	}
	return &Example.StatT{Id: m.Name, Val: int64(m.Hp)}, nil
}

func (storage) Open(_ context.Context, s *Example.StatT) (*Example.BoxT, error) {
	if s.Id == "wrong" {
		return &Example.BoxT{Any: &Example.AnyT{Type: Example.AnyMonster, Value: s}}, nil
	}
	return &Example.BoxT{Any: &Example.AnyT{Type: Example.AnyStat, Value: s}}, nil
}

func (storage) GetTotal(_ context.Context, s *Example.StatT) (*Example.StatT, error) {
	if s.Id == "panic" {
		panic("a bug")
	}
	return &Example.StatT{Id: "total of " + s.Id}, nil
}

// TestOneImplementationServesBoth offers one implementation by this module's
// protocol and by gRPC.
func TestOneImplementationServesBoth(t *testing.T) {
	ctx := testContext(t)
	own := Example.NewMonsterStorageIPCClient(ipctest.Pipe(t,
		Example.NewMonsterStorageService(storage{})))
	byGRPC := Example.NewMonsterStorageClient(start(t, func(r grpc.ServiceRegistrar) {
		Example.RegisterMonsterStorageServer(r, Example.NewMonsterStorageServer(storage{}))
	}))
	a, err := own.Store(ctx, &Example.MonsterT{Name: "both", Hp: 7})
	if err != nil {
		t.Fatal(err)
	}
	b := flatbuffers.NewBuilder(0)
	Example.FinishMonsterBuffer(b, (&Example.MonsterT{Name: "both", Hp: 7}).Pack(b))
	s, err := byGRPC.Store(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.UnPack(); *got != *a || a.Val != 7 {
		t.Errorf("%+v by gRPC, %+v by this module's protocol", got, a)
	}

	for name, want := range map[string]codes.Code{
		"nobody": codes.NotFound, "stranger": codes.Unauthenticated, "plain": codes.Unknown,
		"fine": codes.Unknown, "nothing": codes.Internal,
	} {
		_, err := byGRPC.Store(ctx, monster(name))
		wantCode(t, name, err, want)
		if name == "nobody" && !strings.Contains(err.Error(), "there is no nobody") {
			t.Errorf("the text is lost: %v", err)
		}
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err = byGRPC.Store(short, monster("slow"))
	wantCode(t, "slow", err, codes.DeadlineExceeded)

	// The implementation has no such method but the one that it embeds.
	list, err := byGRPC.Retrieve(ctx, stat("s"))
	if err == nil {
		_, err = list.Recv()
	}
	wantCode(t, "retrieve", err, codes.Unimplemented)
}

// extended adds a method that streams to an implementation that has none.
type extended struct{ Example.MonsterStorageServer }

func (extended) Retrieve(s *Example.Stat, out Example.MonsterStorage_RetrieveServer) error {
	if err := out.SetHeader(metadata.Pairs("kind", "extended")); err != nil {
		return err
	}
	return sendThree(string(s.Id()), out.Send)
}

// TestAdapterCanBeExtended embeds the adapter in a server that streams too.
func TestAdapterCanBeExtended(t *testing.T) {
	ctx := testContext(t)
	c := Example.NewMonsterStorageClient(start(t, func(r grpc.ServiceRegistrar) {
		Example.RegisterMonsterStorageServer(r,
			extended{Example.NewMonsterStorageServer(storage{})})
	}))
	if s, err := c.Store(ctx, monster("unary")); err != nil || string(s.Id()) != "unary" {
		t.Fatal(err)
	}
	list, err := c.Retrieve(ctx, stat("s"))
	if err != nil {
		t.Fatal(err)
	}
	if h, err := list.Header(); err != nil || !slices.Equal(h.Get("kind"), []string{"extended"}) {
		t.Errorf("header %v, %v", h, err)
	}
	if m, err := list.Recv(); err != nil || string(m.Name()) != "s 0" {
		t.Error(err)
	}
}

// TestNilImplementation makes a server of nil: the mistake shows before the first call,
// and the panic names the interface.
func TestNilImplementation(t *testing.T) {
	defer func() {
		const want = "implements Example.MonsterStorage"
		if text, _ := recover().(string); !strings.HasSuffix(text, want) {
			t.Errorf("panic %q, want one that ends with %q", text, want)
		}
	}()
	Example.NewMonsterStorageServer(nil)
}

// TestSmallLetters calls a service whose names begin with small letters, and whose
// implementation has faults.
func TestSmallLetters(t *testing.T) {
	c := Example.NewLedgerClient(start(t, func(r grpc.ServiceRegistrar) {
		Example.RegisterLedgerServer(r, Example.NewLedgerServer(storage{}))
	}))
	ctx := testContext(t)
	s, err := c.Get_total(ctx, stat("s"))
	if err != nil || string(s.Id()) != "total of s" {
		t.Error(err)
	}

	// What would end the process, or send what no buffer can hold.
	_, err = c.Get_total(ctx, stat("panic"))
	wantCode(t, "panic", err, codes.Internal)
	_, err = c.Open(ctx, stat("wrong"))
	if wantCode(t, "wrong union", err, codes.Internal); !strings.Contains(err.Error(),
		"field any: union MyGame.Example.Any: Type is Monster") {
		t.Error(err)
	}
	box, err := c.Open(ctx, stat("right"))
	if err != nil || box.UnPack().Any.Value.(*Example.StatT).Id != "right" {
		t.Error(err)
	}
}

// TestUnimplemented calls a server that has nothing but what it embeds.
func TestUnimplemented(t *testing.T) {
	type nothing struct {
		Example.UnimplementedMonsterStorageServer
	}
	c := Example.NewMonsterStorageClient(start(t, func(r grpc.ServiceRegistrar) {
		Example.RegisterMonsterStorageServer(r, nothing{})
	}))
	_, err := c.Store(testContext(t), monster("m"))
	wantCode(t, "store", err, codes.Unimplemented)
}
