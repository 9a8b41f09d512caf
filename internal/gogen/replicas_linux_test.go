package gogen_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/ipcgen/ipcgen/internal/gogen"
	"github.com/ipcgen/ipcgen/internal/schema"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// shopMain is one program over the code that was generated from one version of the schema
// of a service with a state: a replica, a supervisor of replicas that survive it, or a client.
const shopMain = `package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"

	flatbuffers "github.com/google/flatbuffers/go"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
	"example.com/corpus/VERSION/shop"
)

type state struct {
	shop.UnimplementedShop
	mu  sync.Mutex
	all map[string]string
}

func (s *state) Set(_ context.Context, req *shop.SetT) (*shop.RepT, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[req.Name] = SHOW + rest(req)
	return REPLY, nil
}

// rest shows what replicas of different versions could read differently.
func rest(req *shop.SetT) (text string) {
	if req.Marks != 0 {
		text += " " + req.Marks.String()
	}
	for _, k := range req.Kinds {
		text += " " + k.String()
	}
	for _, e := range req.Extras {
		if e != nil {
			text += " " + e.Type.String()
		}
	}
	if len(req.Nested) > 0 {
		box := shop.GetRootAsBox(req.Nested, 0).UnPack()
		text += fmt.Sprintf(" %+v", *box)
	}
	return text
}

func (s *state) Get(_ context.Context, req *shop.GetT) (*shop.RepT, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &shop.RepT{Text: s.all[req.Name]}, nil
}

func (s *state) Snapshot() ([]byte, error) { return json.Marshal(s.all) }

func (s *state) Restore(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return json.Unmarshal(b, &s.all)
}

func replica() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s := &state{all: map[string]string{}}
	m, err := group.Join(group.JoinConfig{State: s})
	if err != nil {
		return err
	}
	defer m.Close()
	channel := fmt.Sprint("shop_", m.Index())
	l, err := ipc.Listen(channel)
	if err != nil {
		return err
	}
	server := ipc.NewServer(m.ServerOptions(shop.NewShopService(s))...)
	go server.Serve(context.Background(), l)
	if err := m.Announce(registry.Record{Control: channel}); err != nil {
		return err
	}
	<-ctx.Done()
	return server.Shutdown(context.Background())
}

func main() {
	if os.Args[1] == "replica" {
		if err := replica(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ctx := context.Background()
	if os.Args[1] == "host" {
		_, err := group.Start(ctx, group.Config{
			Service: "shop", Domain: os.Args[2], Replicas: len(os.Args[3:]), Survive: true,
			Replication: &group.Replication{},
			Command: func(i int) *exec.Cmd { return exec.Command(os.Args[3+i], "replica") },
		})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("up")
		select {}
	}
	c, err := group.Dial(ctx, "shop", group.DialConfig{Domain: os.Args[2]})
	if err != nil {
		panic(err)
	}
	client, name := shop.NewShopClient(c), os.Args[3]
	_ = flatbuffers.NewBuilder
	var rep *shop.RepT
	switch os.Args[1] {
	case "set":
		_, err = client.Set(ctx, &shop.SetT{Name: name, Price: 7})
	CASES
	case "get":
		if rep, err = client.Get(ctx, &shop.GetT{Name: name}); err == nil {
			fmt.Print(rep.Text)
		}
	}
	if err != nil {
		fmt.Print(ipc.CodeOf(err), "/", ipc.OutcomeOf(err), ": ", err)
	}
}
`

const shopSchema = `
attribute "read_only";
namespace shop;
table Text { text: string; }
table Number { number: int; }
enum Kind : ubyte { Plain, Rare NEWVALUE }
enum Marks : ubyte (bit_flags) { Cheap, Fresh NEWFLAG }
struct Place { row: int; kinds: [Kind:2]; }
union Extra { Text NEWMEMBER }
table Box { extra: Extra; NEWBOX }
table Set { name: string; price: PRICE; kind: Kind; boxes: [Box]; place: Place;
  marks: Marks; kinds: [Kind]; extras: [Extra]; nested: [ubyte] (nested_flatbuffer: "Box"); NEWFIELD }
table Get { name: string; }
table Rep { text: string; NEWREPLY }
rpc_service Shop { Set(Set): Rep; Get(Get): Rep (read_only); NEWMETHOD }
`

// buildShop builds the program of three versions: the second has more of everything, and the
// third one is incompatible. It returns the folder of the programs "first", "second" and "bad".
func buildShop(t *testing.T) (bin string) {
	if testing.Short() {
		t.Skip("builds programs")
	}
	module := newModule(t)
	for _, v := range []struct {
		name               string
		schema             []string
		show, reply, cases string
	}{
		{name: "first"},
		{name: "bad", schema: []string{"PRICE", "float"}},
		{
			name: "second",
			schema: []string{"NEWVALUE", ", Odd", "NEWFLAG", ", Torn", "NEWMEMBER",
				", Number", "NEWBOX", "weight: int;", "NEWFIELD", "note: string;",
				"NEWREPLY", "more: int;", "NEWMETHOD", "Drop(Get): Rep;"},
			show: `fmt.Sprint(req.Price, " ", req.Note, req.Kind)`, reply: "&shop.RepT{More: 5}",
			cases: `case "note":
		_, err = client.Set(ctx, &shop.SetT{Name: name, Price: 8, Note: "new"})
	case "kind":
		_, err = client.Set(ctx, &shop.SetT{Name: name, Price: 8, Kind: shop.KindOdd})
	case "place":
		_, err = client.Set(ctx, &shop.SetT{Name: name, Price: 8, Place: &shop.PlaceT{Kinds: [2]shop.Kind{0, shop.KindOdd}}})
	case "weight":
		_, err = client.Set(ctx, &shop.SetT{Name: name, Price: 8, Boxes: []*shop.BoxT{{}, {Weight: 1}}})
	case "member":
		_, err = client.Set(ctx, &shop.SetT{Name: name, Price: 8, Boxes: []*shop.BoxT{{Extra: &shop.ExtraT{Type: shop.ExtraNumber, Value: &shop.NumberT{}}}}})
	case "flag":
		_, err = client.Set(ctx, &shop.SetT{Name: name, Price: 8, Marks: shop.MarksTorn | shop.MarksCheap})
	case "kinds":
		_, err = client.Set(ctx, &shop.SetT{Name: name, Price: 8, Kinds: []shop.Kind{0, shop.KindOdd}})
	case "members":
		_, err = client.Set(ctx, &shop.SetT{Name: name, Price: 8, Extras: []*shop.ExtraT{
			{Type: shop.ExtraText, Value: &shop.TextT{}}, {Type: shop.ExtraNumber, Value: &shop.NumberT{}}}})
	case "nested":
		b := flatbuffers.NewBuilder(0)
		b.Finish((&shop.BoxT{Weight: 4}).Pack(b))
		_, err = client.Set(ctx, &shop.SetT{Name: name, Price: 8, Nested: b.FinishedBytes()})
	case "known":
		_, err = client.Set(ctx, &shop.SetT{Name: name, Price: 8, Kind: shop.KindRare,
			Marks: shop.MarksFresh, Place: &shop.PlaceT{Row: 3},
			Boxes: []*shop.BoxT{{Extra: &shop.ExtraT{Type: shop.ExtraText, Value: &shop.TextT{Text: "x"}}}}})
	case "drop":
		_, err = client.Drop(ctx, &shop.GetT{Name: name})`,
		},
	} {
		text := strings.NewReplacer(append(v.schema, "PRICE", "int", "NEWVALUE", "", "NEWFLAG", "",
			"NEWMEMBER", "", "NEWBOX", "", "NEWFIELD", "", "NEWREPLY", "", "NEWMETHOD",
			"")...).Replace(shopSchema)
		path := filepath.Join(t.TempDir(), v.name+".fbs")
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		write(t, module, v.name,
			generate(t, gogen.Options{ImportPath: corpusModule + "/" + v.name, All: true},
				schema.Options{}, path))
		show, reply := `fmt.Sprint(req.Price, " ", req.Kind)`, "&shop.RepT{}"
		if v.show != "" {
			show, reply = v.show, v.reply
		}
		main := strings.NewReplacer("VERSION", v.name, "SHOW", show, "REPLY", reply, "CASES",
			v.cases).Replace(shopMain)
		write(t, module, v.name, []gogen.File{{Path: "main.go", Content: []byte(main)}})
	}
	bin = filepath.Join(module, "bin")
	if err := os.Mkdir(bin, 0o777); err != nil {
		t.Fatal(err)
	}
	goTool(t, module, "build", "-o", "bin/", "./...")
	return bin
}

// A shopGroup is a group of replicas of the shop, and its clients.
type shopGroup struct {
	*group.Group
	bin, domain string
	mu          sync.Mutex
	events      strings.Builder
}

// version is the command of a replica of a version.
func (g *shopGroup) version(name string) func(int) *exec.Cmd {
	return func(int) *exec.Cmd { return exec.Command(filepath.Join(g.bin, name), "replica") }
}

func startShop(t *testing.T, bin string, versions ...string) *shopGroup {
	t.Helper()
	g := &shopGroup{bin: bin, domain: filepath.Join(t.TempDir(), "domain")}
	var err error
	g.Group, err = group.Start(t.Context(), group.Config{
		Service: "shop", Domain: g.domain, Replicas: len(versions),
		Replication: &group.Replication{},
		Command:     func(i int) *exec.Cmd { return g.version(versions[i])(i) },
		Events:      g.record,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Shutdown(context.Background()) })
	return g
}

func (g *shopGroup) record(ev group.Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.events.WriteString(ev.Kind.String() + " " + ev.Replica + ": " + ev.Cause + "\n")
}

// said returns the events so far.
func (g *shopGroup) said() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.events.String()
}

// call has a client of a version do something, and checks how what it prints begins.
func (g *shopGroup) call(t *testing.T, version, what, name, want string, says ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), filepath.Join(g.bin, version), what, g.domain,
		name).CombinedOutput()
	got := string(out)
	if err != nil || got != want && (want == "" || len(says) == 0) ||
		!strings.HasPrefix(got, want) {
		t.Errorf("%s %s of a %s client: %q, want %q (%v)", what, name, version, got, want, err)
	}
	for _, s := range says {
		if !strings.Contains(got, s) {
			t.Errorf("%s %s of a %s client: %q does not say %q", what, name, version, got, s)
		}
	}
}

// versions returns the versions that the replicas run.
func (g *shopGroup) versions(t *testing.T) (all []string) {
	t.Helper()
	for _, i := range g.Replicas() {
		exe, err := os.Readlink("/proc/" + strconv.Itoa(i.PID) + "/exe")
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, filepath.Base(exe))
	}
	return all
}

func (g *shopGroup) roll(t *testing.T, version string) {
	t.Helper()
	if err := g.Roll(t.Context(), g.version(version)); err != nil {
		t.Fatal(err)
	}
}

const refused = "failed precondition/not executed"

// TestReplicasOfTwoVersions has replicas of two versions keep one state: what only the newer one
// understands is refused, or is dropped by a primary that does not understand it either.
func TestReplicasOfTwoVersions(t *testing.T) {
	g := startShop(t, buildShop(t), "first", "second")
	// The primary does not know the note, so the newer standby must not see it.
	g.call(t, "first", "set", "a", "")
	g.call(t, "second", "note", "b", "")
	g.call(t, "second", "drop", "a", "unimplemented", "not executed")
	g.call(t, "second", "member", "m", "")
	g.call(t, "second", "members", "n", "")
	// Nor must it see a number or a nested buffer that the primary can pass on without knowing it.
	for what, lack := range map[string]string{
		"kind": "no value Odd in enum shop.Kind", "place": "no value Odd in enum shop.Kind",
		"kinds": "no value Odd in enum shop.Kind", "flag": "no value Torn in enum shop.Marks",
		"nested": "no field weight in table shop.Box",
	} {
		g.call(t, "second", what, "e", refused, "in shop.0 there is "+lack, "shop.1")
	}
	if _, err := g.Failover(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.call(t, "first", "get", "a", "7 Plain")
	for name, want := range map[string]string{"b": "8 Plain", "m": "8 Plain", "n": "8 Plain Text"} {
		g.call(t, "second", "get", name, want)
	}
	g.call(t, "second", "get", "e", "")
	// Now the newer one rules, beside a standby that would drop what is new.
	for what, lack := range map[string]string{
		"note": "no field note in table shop.Set", "weight": "no field weight in table shop.Box",
		"kind": "no value Odd in enum shop.Kind", "place": "no value Odd in enum shop.Kind",
		"kinds": "no value Odd in enum shop.Kind", "flag": "no value Torn in enum shop.Marks",
		"member":  "no member Number in union shop.Extra",
		"members": "no member Number in union shop.Extra",
		"nested":  "no field weight in table shop.Box", "drop": "no method shop.Shop/Drop",
	} {
		g.call(t, "second", what, "c", refused, "in shop.0 there is "+lack)
	}
	g.call(t, "second", "get", "c", "")
	g.call(t, "second", "known", "c", "")
	g.call(t, "second", "get", "c", "8 Rare Fresh")
	// When all are new, all of it goes.
	g.roll(t, "second")
	g.call(t, "second", "note", "c", "")
	g.call(t, "second", "get", "c", "8 newPlain")
	// And back, with the state.
	g.roll(t, "first")
	g.call(t, "first", "get", "c", "8 newPlain")
	g.call(t, "first", "get", "a", "7 Plain")
	g.call(t, "second", "note", "d", "")
	g.call(t, "first", "get", "d", "8 Plain")
	if events := g.said(); strings.Contains(events, "suspected") ||
		strings.Contains(events, "lost") {
		t.Errorf("events:\n%s", events)
	}
}

// TestRollToAnIncompatibleVersionIsUndone tries to replace replicas by such that cannot share
// their state.
func TestRollToAnIncompatibleVersionIsUndone(t *testing.T) {
	bin := buildShop(t)
	g := startShop(t, bin, "first", "first", "first")
	g.call(t, "first", "set", "a", "")
	err := g.Roll(t.Context(), g.version("bad"))
	if err == nil || !strings.Contains(err.Error(), "price int32") ||
		!strings.Contains(err.Error(), "price float32") {
		t.Errorf("the roll ended with %v", err)
	}
	if got := g.versions(t); strings.Join(got, " ") != "first first first" {
		t.Errorf("replicas run %v", got)
	}
	g.call(t, "first", "get", "a", "7 Plain")
	if _, err := g.Failover(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.call(t, "first", "get", "a", "7 Plain")

	// Nor do such replicas make a group.
	domain := filepath.Join(t.TempDir(), "domain")
	_, err = group.Start(t.Context(), group.Config{
		Service: "shop", Domain: domain, Replication: &group.Replication{},
		Command: func(i int) *exec.Cmd { return g.version([]string{"first", "bad"}[i])(i) },
	})
	if err == nil || !strings.Contains(err.Error(), "price int32") {
		t.Errorf("the group: %v", err)
	}
}
