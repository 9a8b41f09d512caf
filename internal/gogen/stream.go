package gogen

import (
	"github.com/dave/jennifer/jen"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// A stream is a struct that travels with raw bytes behind it.
type stream struct {
	header *schema.Object

	info, schema                 string
	writer, openWriter, onWriter string
	reader, openReader, onReader string
}

// isStream reports whether a struct is marked as the header of a stream's blocks.
func isStream(o *schema.Object) bool { return o.IsStruct && o.Attributes.Has(schema.AttrStream) }

// planStreams finds the structs of a part that are marked as streams.
func (p *plan) planStreams(part *part) {
	for _, o := range part.objects {
		if !o.Attributes.Has(schema.AttrStream) {
			continue
		}
		if !o.IsStruct {
			p.diags.Errorf(o.Span,
				"table %s cannot be streamed: a stream's blocks begin with a struct", o.Name).
				Helpf("make it a struct, or send it as a message of an envelope")
			continue
		}
		p.streams = append(p.streams, p.nameStream(o))
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
	full := fullName(s.header.Namespace, s.header.Name)
	description := describeStream(s)
	d := f.plan.definitionOf(s.header.Namespace, s.header.File)
	f.decl(s.info+" identifies streams of "+full+" to the peer.",
		jen.Var().Id(s.info).Op("=").Op("&").Add(composite(ipc("StreamInfo"),
			value("Protocol", jen.Op("&").Add(f.protocolOf(s.schema, full, description, d))),
			value("HeaderSize", jen.Lit(s.header.Size)),
		)))
	f.decl("", jen.Const().Id(s.schema).Op("=").Add(text(description)))

	f.definition(s, d)

	header := local("header").Add(ptr(f.objectType(s.header)))
	payload := local("payload").Index().Byte()
	lost := local("lost").Uint64()
	f.streamEnd(s, "Writer", "writes", s.writer, s.openWriter, s.onWriter)
	f.streamMethod(s.writer, "Write",
		"Write waits for room for a block with ℓn bytes behind its header, lets ℓf write both "+
			"in place, and publishes the block "+
			"when ℓf returns nil. Header and payload hold an older block at first, and may not "+
			"be kept.",
		[]jen.Code{local("n").Int()}, header, payload)
	f.streamEnd(s, "Reader", "reads", s.reader, s.openReader, s.onReader)
	f.streamMethod(s.reader, "Read",
		"Read waits for a block and lets ℓf read it in place; ℓlost is the number of blocks "+
			"that were overwritten before it. "+
			"Neither ℓheader nor ℓpayload may be kept.",
		nil, header, payload, lost)
}

// streamEnd writes one end of a stream, which reads or writes: its type, the functions that open
// and serve it, and the methods that both ends have.
func (f *file) streamEnd(s *stream, end, verb, typ, open, handle string) {
	header := f.objectType(s.header)
	wrapped := func() *jen.Statement {
		return jen.Op("&").Id(typ).Values(value("stream", local("s")))
	}
	f.decl(sentence(article(typ))+" "+verb+" blocks, each "+article(header)+
		" with raw bytes behind it. One goroutine at a time may use it.",
		jen.Type().Id(typ).Struct(
			jen.Id("stream").Op("*").Add(ipc("Stream"+end)),
			jen.Id("header").Id(header),
		))
	f.decl(open+" opens a stream on a server's channel; see ipc.OpenStream"+end+".",
		jen.Func().Id(open).Params(
			ctx(), local("channel").String(), local("o").Add(ipc("StreamOptions")),
			local("opts").Op("...").Add(ipc("DialOption")),
		).Params(ptr(typ), jen.Error()).Block(
			jen.List(local("s"), local("err")).Op(":=").Add(ipc("OpenStream"+end)).Call(
				local("ctx"), local("channel"), jen.Id(s.info), local("o"),
				local("opts").Op("...")),
			jen.If(local("err").Op("!=").Nil()).Block(jen.Return(jen.Nil(), local("err"))),
			jen.Return(wrapped(), jen.Nil()),
		))
	f.decl(handle+" serves the streams that clients open; ℓf runs once for each.",
		jen.Func().Id(handle).Params(
			local("f").Func().Params(ctx(), local("s").Add(ptr(typ))).Error(),
		).Add(ipc("ServerOption")).Block(
			jen.If(local("f").Op("==").Nil()).Block( // Serve reports it
				jen.Return(ipc("HandleStream"+end).Call(jen.Id(s.info), jen.Nil()))),
			jen.Return(ipc("HandleStream"+end).Call(jen.Id(s.info),
				jen.Func().Params(ctx(), local("s").Op("*").Add(ipc("Stream"+end))).Error().Block(
					jen.Return(local("f").Call(local("ctx"), wrapped())))))))
	method := func() *jen.Statement { return jen.Func().Params(local("s").Add(ptr(typ))) }
	f.decl("Peer says who is at the other end.",
		method().Id("Peer").Params().Add(ipc("Peer")).Block(
			jen.Return(local("s").Dot("stream").Dot("Peer").Call())))
	f.decl("Close ends the stream as it is meant to end; see ipc.Stream"+end+".",
		method().Id("Close").Params().Error().Block(
			jen.Return(local("s").Dot("stream").Dot("Close").Call())))
	f.decl("CloseWithError ends the stream because of ℓwhy, which the other end gets in place "+
		"of io.EOF.",
		method().Id("CloseWithError").Params(local("why").Error()).Error().Block(
			jen.Return(local("s").Dot("stream").Dot("CloseWithError").Call(local("why")))))
}

// streamMethod writes Write or Read, whose callback gets the header, the payload and possibly more
// parameters. The accessor of the header is a part of the stream's end, so a block needs no
// allocation.
func (f *file) streamMethod(typ, name, doc string, params []jen.Code, callback ...jen.Code) {
	args := []jen.Code{local("ctx")}
	if len(params) > 0 {
		args = append(args, local("n"))
	}
	raw := []jen.Code{jen.List(local("header"), local("payload")).Index().Byte()}
	pass := []jen.Code{jen.Op("&").Add(local("s")).Dot("header"), local("payload")}
	if len(callback) > 2 {
		raw = append(raw, callback[2])
		pass = append(pass, local("lost"))
	}
	args = append(args, jen.Func().Params(raw...).Error().Block(
		local("s").Dot("header").Dot("Init").Call(local("header"), jen.Lit(0)),
		jen.Return(local("f").Call(pass...)),
	))
	params = append(append([]jen.Code{ctx()}, params...),
		local("f").Func().Params(callback...).Error())
	method := jen.Func().Params(local("s").Add(ptr(typ))).Id(name).Params(params...).Error()
	f.decl(doc, method.Block(jen.Return(local("s").Dot("stream").Dot(name).Call(args...))))
}
