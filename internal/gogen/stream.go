package gogen

import (
	"fmt"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// attrStream, on a struct, asks for streams of blocks that begin with it.
const attrStream = "stream"

// A stream is a struct that travels with raw bytes behind it.
type stream struct {
	header *schema.Object

	info, schema                 string
	writer, openWriter, onWriter string
	reader, openReader, onReader string
}

// planStreams finds the structs that are marked as streams and names what is
// generated for them.
func (p *plan) planStreams() {
	for _, o := range p.schema.Objects {
		if !o.Attributes.Has(attrStream) || !p.generated(o.File) {
			continue
		}
		if !o.IsStruct {
			p.diags.Errorf(o.Span, "table %s cannot be streamed: a stream's blocks begin with a struct", o.Name).
				Helpf("make it a struct, or send it as a message of an envelope")
			continue
		}
		k, t := p.pkgOf(o.Namespace), p.objects[o].Type
		what := "stream of " + fullName(o.Namespace, o.Name)
		name := func(s string) string { return p.must(k, s, what, o.Span) }
		p.streams = append(p.streams, &stream{
			header:     o,
			info:       name(t + "Stream"),
			schema:     k.scope.claim(unexported(t)+"Schema", owner{what, o.Span}),
			writer:     name(t + "Writer"),
			openWriter: name("Open" + t + "Writer"),
			onWriter:   name("Handle" + t + "Writer"),
			reader:     name(t + "Reader"),
			openReader: name("Open" + t + "Reader"),
			onReader:   name("Handle" + t + "Reader"),
		})
	}
}

// describeStream returns the canonical text of a stream: that of its struct.
func describeStream(s *stream) string {
	d := description{types: make(map[string]string)}
	d.object(s.header)
	return d.text()
}

// stream writes the typed ends of a stream.
func (f *file) stream(s *stream) {
	f.useIPC()
	f.use("context")
	full := fullName(s.header.Namespace, s.header.Name)
	text := describeStream(s)
	f.p("// ", s.info, " identifies streams of ", full, " to the peer.")
	f.p("var ", s.info, " = &ipc.StreamInfo{")
	f.p("Protocol: &ipc.Protocol{")
	f.columns([][]string{
		{"Name:", quote(full) + ","},
		{"Fingerprint:", fmt.Sprintf("0x%016x,", fingerprint(text))},
		{"Schema:", s.schema + ","},
	})
	f.p("},")
	f.p("HeaderSize: ", itoa(s.header.Size), ",")
	f.p("}")
	f.p()
	f.p("const ", s.schema, " = `", text, "`")
	f.p()
	f.streamEnd(s, "Writer", s.writer, s.openWriter, s.onWriter)
	f.p("// Write waits for room for a block with n bytes behind its header, lets fill write")
	f.p("// both in place, and publishes the block when fill returns nil. Header and payload")
	f.p("// hold an older block at first, and may not be kept.")
	f.streamMethod(s, s.writer, "Write", "n int, fill func(header *"+f.objectType(s.header)+", payload []byte) error", "n, ", "fill", "")
	f.streamEnd(s, "Reader", s.reader, s.openReader, s.onReader)
	f.p("// Read waits for a block and lets f read it in place; lost is the number of blocks")
	f.p("// that were overwritten before it. Neither header nor payload may be kept.")
	f.streamMethod(s, s.reader, "Read", "f func(header *"+f.objectType(s.header)+", payload []byte, lost uint64) error", "", "f", "lost")
}

// streamEnd writes one end of a stream: its type, how it is opened and served,
// and what it has in common with the other end.
func (f *file) streamEnd(s *stream, end, typ, open, handle string) {
	header := f.objectType(s.header)
	verb := "writes"
	if end == "Reader" {
		verb = "reads"
	}
	f.p("// ", sentence(article(typ)), " ", verb, " blocks, each ", article(header), " with raw bytes behind it. One")
	f.p("// goroutine at a time may use it.")
	f.p("type ", typ, " struct {")
	f.columns([][]string{{"stream", "*ipc.Stream" + end}, {"header", header}})
	f.p("}")
	f.p()
	f.p("// ", open, " opens a stream on a server's channel; see ipc.OpenStream", end, ".")
	f.p("func ", open, "(ctx context.Context, channel string, o ipc.StreamOptions, opts ...ipc.DialOption) (*", typ, ", error) {")
	f.p("s, err := ipc.OpenStream", end, "(ctx, channel, ", s.info, ", o, opts...)")
	f.p("if err != nil {")
	f.p("return nil, err")
	f.p("}")
	f.p("return &", typ, "{stream: s}, nil")
	f.p("}")
	f.p()
	f.p("// ", handle, " serves the streams that clients open; f runs once for each.")
	f.p("func ", handle, "(f func(ctx context.Context, s *", typ, ") error) ipc.ServerOption {")
	f.p("return ipc.HandleStream", end, "(", s.info, ", func(ctx context.Context, s *ipc.Stream", end, ") error {")
	f.p("return f(ctx, &", typ, "{stream: s})")
	f.p("})")
	f.p("}")
	f.p()
	f.p("// Peer says who is at the other end.")
	f.p("func (s *", typ, ") Peer() ipc.Peer {")
	f.p("return s.stream.Peer()")
	f.p("}")
	f.p()
	f.p("// Close ends the stream.")
	f.p("func (s *", typ, ") Close() error {")
	f.p("return s.stream.Close()")
	f.p("}")
	f.p()
}

// sentence capitalises the initial of a sentence.
func sentence(s string) string { return string(upper(s[0])) + s[1:] }

// streamMethod writes Write or Read. The header's accessor is a part of the
// stream's end, so that a block costs no allocation.
func (f *file) streamMethod(s *stream, typ, name, params, args, callback, lost string) {
	result := ""
	if lost != "" {
		lost, result = ", "+lost, ", "+lost+" uint64"
	}
	f.p("func (s *", typ, ") ", name, "(ctx context.Context, ", params, ") error {")
	f.p("return s.stream.", name, "(ctx, ", args, "func(header, payload []byte", result, ") error {")
	f.p("s.header.Init(header, 0)")
	f.p("return ", callback, "(&s.header, payload", lost, ")")
	f.p("})")
	f.p("}")
	f.p()
}
