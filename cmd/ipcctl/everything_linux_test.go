package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/dynamic"
	"github.com/ipcgen/ipcgen/internal/bfbs"
	"github.com/ipcgen/ipcgen/internal/schema"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// everything is a schema with each kind of field. Its comments have markup.
const everything = `namespace every;
/// <script>document.title = "taken"</script>
enum Colour : ubyte {
  Red,
  /// <b onclick="document.title = 'taken'">Like grass</b>
  Green,
  Blue = 7
}
enum Marks : uint (bit_flags) { Bold, Italic, Struck }
struct Point { x: float; y: float; }
struct Grid { cells: [short:2]; at: Point; }
table Leaf { name: string; count: ulong; }
table Note { text: string (required); }
union Any { Leaf, Point, Note }
/// <img src=x onerror="document.title = 'taken'">
table All {
  /// <script>document.title = "taken"</script>
  text: string (required);
  on: bool = true;
  big: ulong;
  ratio: double = 0.5;
  maybe: int = null;
  maybe_on: bool = null;
  colour: Colour = Green;
  marks: Marks;
  where: Point;
  grid: Grid;
  leaf: Leaf;
  any: Any;
  many: [Any];
  names: [string];
  leaves: [Leaf];
  points: [Point];
  raw: [ubyte];
  nested: [ubyte] (nested_flatbuffer: "Leaf");
  flex: [ubyte] (flexbuffer);
  hashed: uint (hash: "fnv1_32");
  __proto__: string;
}
table Told { text: string; }
rpc_service Echo {
  /// <img src=x onerror="document.title = 'taken'">
  Tell(All): Told;
  Fail(Note): Told;
}
`

// serveEverything serves the methods of that schema: Tell replies with the JSON of its request, and
// Fail fails with its text.
func serveEverything(channel string) {
	l, err := ipc.Listen(channel)
	if err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "everything")
	if err != nil {
		panic(err)
	}
	file := filepath.Join(dir, "everything.fbs")
	if err := os.WriteFile(file, []byte(everything), 0o600); err != nil {
		panic(err)
	}
	s, err := dynamic.Load(file, nil, os.Stderr)
	os.RemoveAll(dir)
	if err != nil {
		panic(err)
	}
	p := s.Protocols()[0]
	protocol := &ipc.Protocol{Name: p.Name, Fingerprint: p.Fingerprint, Schema: p.Description,
		Definition: string(bfbs.WriteExact(s.Models()[0], func(f *schema.File) string {
			return f.Name
		}))}
	var routes []ipc.Route
	for _, m := range p.Methods {
		name := m.Decl.Name
		routes = append(routes, ipc.Handle(ipc.NewMethod(protocol, ipc.MethodSpec[[]byte, string]{
			Name: name, ID: m.ID,
			DecodeRequest: func(buf []byte, req *[]byte) (uint64, error) {
				*req = bytes.Clone(buf)
				return 0, nil
			},
			EncodeReply: func(b *flatbuffers.Builder, _, _ uint64, rep *string) error {
				text := b.CreateString(*rep)
				b.StartObject(1)
				b.PrependUOffsetTSlot(0, text, 0)
				b.Finish(b.EndObject())
				return nil
			},
			EncodeRequest: func(*flatbuffers.Builder, uint64, *[]byte) error {
				return errors.New("a server")
			},
			DecodeReply: func([]byte, *string) (uint64, error) { return 0, errors.New("a server") },
		}), func(_ context.Context, req *[]byte) (*string, error) {
			text, err := s.Text(p.Name+"."+name, false, *req)
			if err == nil && name == "Fail" {
				err = ipc.Errorf(ipc.CodeNotFound, "%s", text)
			}
			return new(string(text)), err
		}))
	}
	fmt.Println("ready")
	panic(ipc.NewServer(ipc.NewService(protocol, routes...)).Serve(context.Background(), l))
}
