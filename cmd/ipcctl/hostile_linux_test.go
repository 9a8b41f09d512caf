package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/web"
	"github.com/ipcgen/ipcgen/examples/greeter/gen/greeter"
	"github.com/ipcgen/ipcgen/internal/bfbs"
	"github.com/ipcgen/ipcgen/internal/schema"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/introspect"
)

// A liar answers the questions of tools, and serves a greeter. What is nil is answered truthfully.
type liar struct {
	describe   func(*introspect.DescriptionT)
	definition func(ctx context.Context, number, offset uint32) []byte
	counters   func(*introspect.CountersT)
	tap        func(ctx context.Context) *introspect.TapRecordsT
	reply      []byte        // of all questions, and no FlatBuffer
	wait       time.Duration // before each reply
}

// truth is the description of the greeter.
func truth() *introspect.DescriptionT {
	p := greeter.GreeterProtocol
	return &introspect.DescriptionT{Program: "liar", Go: "go1.0", Pid: uint32(os.Getpid()),
		Started: 1, Limits: &introspect.LimitsT{}, Definitions: []uint32{uint32(len(p.Definition))},
		Protocols: []*introspect.ProtocolT{{Name: p.Name, Fingerprint: p.Fingerprint}}}
}

// part returns a part of a definition as an honest server does.
func part(definition string, offset uint32) []byte {
	rest := definition[min(len(definition), int(offset)):]
	return []byte(rest[:min(len(rest), 256<<10)])
}

// telling makes a liar tell of a definition that describes the greeter, and of much more.
func telling(definition []byte) *liar {
	return &liar{
		describe: func(d *introspect.DescriptionT) {
			d.Definitions[0] = uint32(len(definition))
		},
		definition: func(_ context.Context, _, offset uint32) []byte {
			return part(string(definition), offset)
		},
	}
}

// escapes is a name that would do something to a terminal, a line of text, or a page.
const escapes = "\x1b[2J\x9b1m\r\n}; table Taken { x: int; } //\t<b onclick='x()'>\u202e\x00\xff"

// liars are the servers by the names of their channels.
var liars = map[string]func() *liar{
	"honest":  func() *liar { return &liar{} },
	"garbage": func() *liar { return &liar{reply: bytes.Repeat([]byte{0xfe}, 1<<16)} },
	"slow":    func() *liar { return &liar{wait: time.Hour} },
	"endless.definition": func() *liar {
		return &liar{definition: func(context.Context, uint32, uint32) []byte {
			return make([]byte, 256<<10)
		}}
	},
	"tiny.parts": func() *liar {
		return &liar{
			describe: func(d *introspect.DescriptionT) { d.Definitions[0] = 10 << 20 },
			definition: func(context.Context, uint32, uint32) []byte {
				return []byte{1}
			},
		}
	},
	"many.definitions": func() *liar {
		return &liar{describe: func(d *introspect.DescriptionT) {
			d.Definitions = slices.Repeat(d.Definitions, 1<<18)
		}}
	},
	"many.protocols": func() *liar {
		return &liar{describe: func(d *introspect.DescriptionT) {
			for i := range 1 << 17 {
				d.Protocols = append(d.Protocols, &introspect.ProtocolT{
					Name: fmt.Sprint("t.T", i/2), Fingerprint: uint64(i),
					Topic: &introspect.TopicT{Published: math.MaxUint64}})
			}
		}}
	},
	"wrong.numbers": func() *liar {
		return &liar{describe: func(d *introspect.DescriptionT) {
			d.Protocols[0].Definition = math.MaxInt32
			d.Started = math.MinInt64
		}, counters: func(n *introspect.CountersT) {
			n.At, n.Since = math.MinInt64, math.MaxInt64
			n.Clients, n.CallsInFlight = math.MaxUint32, math.MaxUint32
			n.WaitsForRoom, n.ReceivedBytes = math.MaxUint64, math.MaxUint64
			n.Methods = []*introspect.MethodCountersT{{Done: math.MaxUint64,
				InFlight: math.MaxUint32, Duration: math.MaxUint64,
				Histogram: slices.Repeat([]uint64{math.MaxUint64}, 1<<18)}}
			for i := range uint32(1 << 17) {
				n.Processes = append(n.Processes, &introspect.ClientProcessT{Pid: i % 100,
					Connections: math.MaxUint32, Asks: i%2 == 0, Waiting: introspect.Waiting(i),
					CallsInFlight: math.MaxUint32, Received: uint64(i) << 40})
			}
		}}
	},
	"escapes": func() *liar {
		return &liar{describe: func(d *introspect.DescriptionT) {
			d.Program, d.Version, d.Runtime, d.Go = escapes, escapes, escapes, escapes
			d.Protocols = append(d.Protocols, &introspect.ProtocolT{Name: escapes, Definition: -1,
				Topic: &introspect.TopicT{}})
		}, counters: func(n *introspect.CountersT) {
			n.Methods = []*introspect.MethodCountersT{{Protocol: escapes, Name: escapes, Done: 1,
				InFlight: 1}}
		}, tap: func(context.Context) *introspect.TapRecordsT {
			return &introspect.TapRecordsT{Records: []*introspect.TapRecordT{
				{Kind: introspect.TapKindRequest, Protocol: escapes, Name: escapes},
				{Kind: introspect.TapKindEnd, Protocol: escapes, Name: escapes, Code: 99,
					Outcome: 77, Text: escapes}}}
		}}
	},
	"long.name": func() *liar {
		return &liar{describe: func(d *introspect.DescriptionT) {
			d.Program = strings.Repeat("x", 15<<20)
		}}
	},
	"endless.tap": func() *liar {
		call := uint64(0)
		return &liar{tap: func(context.Context) *introspect.TapRecordsT {
			all := &introspect.TapRecordsT{Lost: call / 2}
			for range 200 {
				call++
				all.Records = append(all.Records, &introspect.TapRecordT{Call: call, At: -5,
					Kind:     introspect.TapKind(call % 2 * (call % 251)),
					Protocol: greeter.GreeterProtocol.Name, Name: "Greet", Length: 1 << 16,
					Body: make([]byte, 1<<16), Text: strings.Repeat("x", 1000)},
					&introspect.TapRecordT{Call: call + 7, Protocol: "p", Length: 3,
						Name: strings.Repeat("n", 1000) + fmt.Sprint(call)})
			}
			return all
		}}
	},
	// Structs that contain each other, of which any size is too small.
	"cyclic.structs": func() *liar {
		s := parse(`namespace greeter; struct A { x: int; } struct B { a: A; }
			table Hello { name: string; b: B; } table Greeting { text: string; }
			rpc_service Greeter { Greet(Hello): Greeting (idempotent); }`)
		a, b := s.Objects[0], s.Objects[1]
		if a.Name != "A" {
			a, b = b, a
		}
		a.Fields[0].Type = schema.Type{Base: schema.Obj, Object: b}
		return telling(bfbs.WriteExact(s, func(f *schema.File) string { return f.Name }))
	},
	// Tables that contain each other in all ways, which is allowed.
	"cyclic.tables": func() *liar {
		return telling(written(`namespace greeter; union Any { Hello, Greeting }
			table Hello { name: string; self: Hello; all: [Hello]; any: Any; many: [Any];
			nested: [ubyte] (nested_flatbuffer: "Hello"); } table Greeting { text: string; to: Hello; }
			rpc_service Greeter { Greet(Hello): Greeting (idempotent); }`))
	},
	// Many services, each of which reaches many tables: their texts are quadratic.
	"unfolding": func() *liar {
		var b strings.Builder
		b.WriteString("namespace greeter; table Hello { name: string; }\n" +
			"table Greeting { text: string; }\n" +
			"rpc_service Greeter { Greet(Hello): Greeting (idempotent); }\n")
		const n = 250
		long := strings.Repeat("x", 300)
		for i := range n {
			fmt.Fprintf(&b, "table T%d%s { next: T%d%s; }\n", i, long, (i+1)%n, long)
			fmt.Fprintf(&b, "rpc_service S%d { M(T%d%s): T%d%s; }\n", i, i, long, i, long)
		}
		return telling(written(b.String()))
	},
	"dies": func() *liar {
		return &liar{definition: func(context.Context, uint32, uint32) []byte {
			os.Exit(0)
			return nil
		}}
	},
}

// parse returns the model of a text.
func parse(text string) *schema.Schema {
	dir, err := os.MkdirTemp("", "liar")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "liar.fbs")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		panic(err)
	}
	models, diags := schema.Load(schema.Options{}, file)
	if err := diags.Err(); err != nil {
		panic(err)
	}
	return models[0]
}

// written returns the binary schema of a text.
func written(text string) []byte {
	return bfbs.WriteExact(parse(text), func(f *schema.File) string { return f.Name })
}

// A packed is a message that writes itself.
type packed func(*flatbuffers.Builder) flatbuffers.UOffsetT

// question makes a method of introspection whose requests are the buffers themselves.
func (l *liar) question(name string,
	answer func(ctx context.Context, request []byte) packed) ipc.Route {
	h := fnv.New32a()
	h.Write([]byte("ipc.Introspection/" + name))
	return ipc.Handle(ipc.NewMethod(introspection, ipc.MethodSpec[[]byte, packed]{
		Name: name, ID: h.Sum32(),
		DecodeRequest: func(buf []byte, req *[]byte) (uint64, error) {
			*req = bytes.Clone(buf)
			return 0, nil
		},
		EncodeReply: func(b *flatbuffers.Builder, _, _ uint64, rep *packed) error {
			b.Finish((*rep)(b))
			return nil
		},
		EncodeRequest: func(*flatbuffers.Builder, uint64, *[]byte) error {
			return errors.New("a server")
		},
		DecodeReply: func([]byte, *packed) (uint64, error) { return 0, errors.New("a server") },
	}), func(ctx context.Context, req *[]byte) (*packed, error) {
		if l.wait > 0 {
			select {
			case <-time.After(l.wait):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if l.reply != nil {
			return new(packed(func(b *flatbuffers.Builder) flatbuffers.UOffsetT {
				return b.CreateByteVector(l.reply)
			})), nil
		}
		return new(answer(ctx, *req)), nil
	})
}

// introspection is the protocol of tools, as a server that lies serves it.
var introspection = &ipc.Protocol{Name: "ipc.Introspection"}

// serveLies serves the liar whose name is that of the channel.
func serveLies(channel string) {
	l := liars[channel]()
	listener, err := ipc.Listen(channel)
	if err != nil {
		panic(err)
	}
	routes := []ipc.Route{
		l.question("Describe", func(context.Context, []byte) packed {
			d := truth()
			if l.describe != nil {
				l.describe(d)
			}
			return d.Pack
		}),
		l.question("ReadDefinition", func(ctx context.Context, request []byte) packed {
			r := introspect.GetRootAsReadDefinition(request, 0)
			data := part(greeter.GreeterProtocol.Definition, r.Offset())
			if l.definition != nil {
				data = l.definition(ctx, r.Definition(), r.Offset())
			}
			return (&introspect.DefinitionPartT{Data: data}).Pack
		}),
		l.question("ReadCounters", func(context.Context, []byte) packed {
			n := &introspect.CountersT{At: time.Now().UnixNano(), Clients: 1}
			if l.counters != nil {
				l.counters(n)
			}
			return n.Pack
		}),
		l.question("OpenTap", func(context.Context, []byte) packed {
			return (&introspect.TapT{Number: 1}).Pack
		}),
		l.question("ReadTap", func(ctx context.Context, request []byte) packed {
			if l.tap != nil {
				return l.tap(ctx).Pack
			}
			select {
			case <-time.After(time.Duration(
				introspect.GetRootAsReadTap(request, 0).Wait())):
			case <-ctx.Done():
			}
			return new(introspect.TapRecordsT).Pack
		}),
		l.question("CloseTap", func(context.Context, []byte) packed {
			return new(introspect.TapClosedT).Pack
		}),
	}
	fmt.Println("ready")
	panic(ipc.NewServer(ipc.NewService(introspection, routes...), ipc.WithIntrospection(nil),
		greeter.NewGreeterService(polite{})).Serve(context.Background(), listener))
}

// hesitant are the servers for which commands wait until they have had enough.
var hesitant = map[string]bool{"slow": true, "tiny.parts": true}

// An attempt is a command that is tried on a server, whose name stands for NAME.
type attempt struct {
	args string
	in   string
	// stop ends the command as Ctrl-C does after that time, if it has not ended by itself.
	stop time.Duration
}

// attempts are the commands that ask a server.
var attempts = []attempt{
	{args: "describe -timeout WAIT NAME"},
	{args: "describe -json -timeout WAIT NAME"},
	{args: "describe -timeout WAIT -bfbs TEMP/NAME.bfbs NAME"},
	{args: "convert -schema TEMP/NAME.bfbs -type greeter.Hello - -", in: `{"name": "x"}`},
	{args: `call -timeout WAIT NAME Greet {"name":"x"}`},
	{args: "send -timeout WAIT NAME SetParam {}"},
	{args: "subscribe -timeout WAIT -n 1 NAME", stop: time.Second / 2},
	{args: `bench -timeout WAIT -n 10 NAME Greet {"name":"x"}`},
	{args: "tap -timeout WAIT NAME", stop: time.Second / 2},
	{args: "tap -timeout WAIT -where request.name=x NAME", stop: time.Second / 2},
	{args: "record -timeout WAIT -duration 200ms -o TEMP/NAME.mcap NAME", stop: 10 * time.Second},
	{args: "replay -timeout WAIT -speed max TEMP/good.mcap NAME"},
	{args: "ls -topics"},
	{args: "ls -rates -json"},
	{args: "top -once -interval 100ms"},
	{args: "doctor -timeout WAIT"},
}

// besiege tries all commands on the server of a name, and prints how each has ended. The process
// ends with an error if a command does not.
func besiege(name, temp string) {
	for _, a := range attempts {
		wait := "20s"
		if hesitant[name] {
			wait = "300ms"
		}
		args := append([]string{"ipcctl"}, strings.Fields(strings.NewReplacer("NAME", name,
			"TEMP", temp, "WAIT", wait).Replace(a.args))...)
		ctx, cancel := context.WithCancel(context.Background())
		if a.stop > 0 {
			time.AfterFunc(a.stop, cancel)
		}
		hangs := time.AfterFunc(tooLong, func() {
			panic("no end of " + strings.Join(args, " "))
		})
		var out, errOut lengthWriter
		code := run(ctx, args, strings.NewReader(a.in), &out, &errOut)
		hangs.Stop()
		cancel()
		fmt.Printf("%s: status %d, %d bytes in %d lines; %.300q\n", a.args, code, out.bytes,
			out.lines, errOut.first)
	}
	besiegePage(name)
}

// besiegePage asks about the server as the page does.
func besiegePage(name string) {
	l, err := web.Listen("127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	s := web.New("")
	_, token, _ := strings.Cut(s.Address(l), "#")
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	ask := func(path, body string) (status int) {
		limited, done := context.WithTimeout(ctx, tooLong)
		defer done()
		r, err := http.NewRequestWithContext(limited, http.MethodPost,
			"http://"+l.Addr().String()+"/api/"+path, strings.NewReader(body))
		if err != nil {
			panic(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			panic(fmt.Errorf("%s of %s: %w", path, name, err))
		}
		text, err := io.ReadAll(io.LimitReader(answer.Body, 100)) // the news begin, and do not end
		answer.Body.Close()
		fmt.Printf("/api/%s: status %d, %v; %.200q\n", path, answer.StatusCode, err, text)
		return answer.StatusCode
	}
	// On a busy machine, the page gives up a server that takes its time, and is asked again.
	for status := 0; status == 0 || status == http.StatusGatewayTimeout && !hesitant[name]; {
		status = ask("describe", `{"name": "`+name+`"}`)
	}
	ask("live", "{}")
	cancel()
	<-served
}

// A lengthWriter counts what is written, and keeps the beginning.
type lengthWriter struct {
	bytes, lines int
	first        []byte
}

func (w *lengthWriter) Write(b []byte) (int, error) {
	w.bytes += len(b)
	w.lines += bytes.Count(b, []byte("\n"))
	w.first = append(w.first, b[:min(len(b), 300-len(w.first))]...)
	return len(b), nil
}

// TestHostileServers tries each command on servers that lie to tools. No command panics, hangs, or
// takes much memory, and what is printed has the lines that it should have.
func TestHostileServers(t *testing.T) {
	newDomain(t)
	temp := t.TempDir()
	serve(t, "greeter")
	rec := startRecorder(t, "-o", filepath.Join(temp, "good.mcap"), "greeter")
	expect(t, 0, "Hello, x!", "", "", "call", "greeter", "Greet", `{"name": "x"}`)
	rec.interrupt("1 call, ")
	// What must be said of some, by the first word of the command. Each command succeeds on the
	// honest one, or refuses what its server has not.
	const described, page = "describe -timeout WAIT NAME: status ", "/api/describe: status "
	says := map[string][]string{
		"honest": {described + "0", "describe -json -timeout WAIT NAME: status 0",
			"convert -schema TEMP/NAME.bfbs -type greeter.Hello - -: status 0",
			`Greet {"name":"x"}: status 0, 21 bytes`,
			"send -timeout WAIT NAME SetParam {}: status 1, ",
			`bench -timeout WAIT -n 10 NAME Greet {"name":"x"}: status 0`,
			"record -timeout WAIT -duration 200ms -o TEMP/NAME.mcap NAME: status 0",
			"TEMP/good.mcap NAME: status 0", page + "200", "/api/live: status 200"},
		"garbage":            {described + "73"},
		"slow":               {described + "66", page + "504"},
		"endless.definition": {described + "76"},
		"tiny.parts":         {described + "66"},
		"many.definitions":   {described + "73", "cannot be: it has 262144 definitions"},
		"many.protocols":     {"cannot be: it has 131073 protocols", page + "502"},
		"wrong.numbers": {`has definition 2147483647 of 1`, "ls -rates -json: status 0",
			"top -once -interval 100ms: status 0"},
		"escapes":        {described + "0", "describe -json -timeout WAIT NAME: status 0"},
		"cyclic.structs": {"definition 0 of the server", page + "502"},
		"cyclic.tables":  {described + "0", page + "200"},
		"unfolding":      {"the descriptions of the protocols have more than"},
		"dies":           {described + "67"},
	}
	// They run at once, because they mostly wait. Each has a domain of its own, because some
	// commands look at all servers.
	sieges := make(map[string]*siege)
	for name := range liars {
		sieges[name] = startSiege(t, name, temp)
	}
	for name, s := range sieges {
		t.Run(name, func(t *testing.T) {
			err := s.commands.Wait()
			out := s.out.String()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range says[name] {
				if !strings.Contains(out, want) {
					t.Errorf("it is not said: %s", want)
				}
			}
			const most = 512 << 10 // KiB
			usage := s.commands.ProcessState.SysUsage().(*syscall.Rusage)
			t.Logf("%d MiB\n%s", usage.Maxrss>>10, out)
			if usage.Maxrss > most {
				t.Errorf("the commands took %d MiB", usage.Maxrss>>10)
			}
		})
	}
}

// A siege is a server that lies, and the process that tries all commands on it.
type siege struct {
	commands *exec.Cmd
	out      bytes.Buffer
}

func startSiege(t *testing.T, name, temp string) *siege {
	t.Helper()
	env := append(os.Environ(), "IPCGEN_DOMAIN="+filepath.Join(t.TempDir(), "domain"))
	server := exec.Command(os.Args[0])
	server.Env = append(env, childEnv+"=lies:"+name)
	ready, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Kill()
		server.Wait()
	})
	if _, err := io.ReadFull(ready, make([]byte, len("ready"))); err != nil {
		t.Fatal(err)
	}
	s := &siege{commands: exec.Command(os.Args[0], name, temp)}
	s.commands.Env = append(env, childEnv+"=besiege")
	s.commands.Stdout, s.commands.Stderr = &s.out, &s.out
	if err := s.commands.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.commands.Process.Kill() })
	return s
}
