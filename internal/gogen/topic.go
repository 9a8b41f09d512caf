package gogen

import (
	"github.com/dave/jennifer/jen"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// A topic is a struct or table whose values go from one publisher to any number of subscribers.
type topic struct {
	message *schema.Object
	env     *envelope // nil if the message is none
	payload bool      // raw bytes are behind the struct

	typ, schema             string
	publisher, newPublisher string
	subscription, subscribe string
}

// topicPayload is the value of the attribute of a struct that raw bytes are behind.
const topicPayload = "payload"

// isTopic reports whether a type is marked as the message of a topic.
func isTopic(o *schema.Object) bool { return o.Attributes.Has(schema.AttrTopic) }

// planTopics finds the types of a part that are marked as topics.
func (p *plan) planTopics(part *part) {
	for _, o := range part.objects {
		if !isTopic(o) {
			continue
		}
		p.checkTopicValue(o)
		p.topics = append(p.topics, p.nameTopic(o))
	}
}

// checkTopicValue checks the value of the attribute of a type.
func (p *plan) checkTopicValue(o *schema.Object) {
	v, _ := o.Attributes.Lookup(schema.AttrTopic)
	at := spanOf(o.Attributes, schema.AttrTopic, o.Span)
	switch {
	case v == "" || v == topicPayload && o.IsStruct:
	case v == topicPayload:
		p.diags.Errorf(at, "table %s cannot have a payload: raw bytes are behind a struct", o.Name).
			Helpf("add a field to the table: payload: [ubyte]; or make it a struct")
	default:
		p.diags.Errorf(at, "%s of %s has a value, %q", schema.AttrTopic, o.Name, v).
			Helpf("write (%s), or (%s: %q) for a struct with raw bytes behind it; the channel "+
				"that it is published on is chosen in Go", schema.AttrTopic, schema.AttrTopic,
				topicPayload)
	}
}

// describeTopic returns the canonical text of a topic: that of the types of its messages.
func describeTopic(t *topic) string {
	d := description{types: make(map[string]string)}
	if t.payload {
		d.header = t.message
	}
	d.object(t.message)
	return d.text()
}

// topic writes the publisher and the subscription of a topic.
func (f *file) topic(t *topic) {
	o := t.message
	full := fullName(o.Namespace, o.Name)
	description := describeTopic(t)
	d := f.plan.definitionOf(o.Namespace, o.File)
	f.decl(t.typ+" describes the topic "+full+", whose messages are of this type.",
		jen.Var().Id(t.typ).Op("=").Op("&").Add(composite(
			topicName("Type").Index(f.topicMessage(t)), f.topicType(t, full, description, d)...)))
	f.decl("", jen.Const().Id(t.schema).Op("=").Add(text(description)))
	f.definition(t, d)
	f.topicPublisher(t, full)
	f.topicSubscription(t, full)
}

// topicMessage is the Go type of a topic's messages as objects.
func (f *file) topicMessage(t *topic) *jen.Statement {
	object := jen.Id(f.objectObject(t.message))
	if t.payload {
		return topicName("Block").Index(object)
	}
	return object
}

func topicName(name string) *jen.Statement { return qualified("topic", name) }

// topicType returns the elements of the variable that describes the messages.
func (f *file) topicType(t *topic, full, description string, d *definition) []jen.Code {
	o, names := t.message, f.plan.objects[t.message]
	message := func() *jen.Statement { return local("m").Op("*").Add(f.topicMessage(t)) }
	elements := []jen.Code{
		value("Protocol", jen.Op("&").Add(f.protocolOf(t.schema, full, description, d)))}
	if o.IsStruct {
		elements = append(elements, value("Size", jen.Lit(o.Size)))
	} else {
		elements = append(elements, value("Verify",
			jen.Func().Params(local("message").Index().Byte()).Error().Block(
				jen.Return(jen.Id(names.Verify).Call(local("message"))))))
	}
	encode := jen.Func().Params(builder(), message()).Error().
		BlockFunc(func(g *jen.Group) {
			g.If(local("m").Op("==").Nil()).Block(jen.Return(ipc("NilMessage").Call(jen.Lit(full))))
			f.encodeTopic(g, t)
		})
	decode := func(recycles bool) *jen.Statement {
		return jen.Func().Params(local("message").Index().Byte(), message()).
			BlockFunc(func(g *jen.Group) { f.decodeTopic(g, t, recycles) })
	}
	elements = append(elements, value("Encode", encode), value("Decode", decode(false)))
	if t.payload || hasParts(o) {
		elements = append(elements, value("Recycle", decode(true)))
	}
	if t.payload {
		elements = append(elements, value("Payload", jen.Func().Params(message()).Index().Byte().
			Block(jen.Return(local("m").Dot("Payload")))))
	}
	return elements
}

// encodeTopic writes the statements that encode m in b, and return from a function.
func (f *file) encodeTopic(g *jen.Group, t *topic) {
	names := f.plan.objects[t.message]
	object := local("m")
	if t.payload {
		object.Dot("Header")
	}
	if names.Check != "" {
		g.If(local("err").Op(":=").Add(object.Clone()).Dot(names.Check).Call(),
			local("err").Op("!=").Nil()).Block(jen.Return(local("err")))
	}
	packed := object.Clone().Dot("Pack").Call(local("b"))
	if !t.message.IsStruct {
		packed = jen.Id(names.FinishBuffer).Call(local("b"), packed)
	}
	g.Add(packed)
	g.Return(jen.Nil())
}

// decodeTopic writes the statements that decode a message to m, which recycles its parts.
func (f *file) decodeTopic(g *jen.Group, t *topic, recycles bool) {
	f.initMessage(g, t)
	unpack := func(m *jen.Statement) *jen.Statement {
		if recycles {
			return local("rcv").Dot("UnPackInto").Call(m, fb("Borrowed"))
		}
		return local("rcv").Dot("UnPackTo").Call(m)
	}
	if !t.payload {
		g.Add(unpack(local("m")))
		return
	}
	g.Add(unpack(jen.Op("&").Add(local("m")).Dot("Header")))
	payload := local("message").Index(jen.Lit(t.message.Size), jen.Empty())
	if recycles {
		payload = fb("BytesIn").Call(payload, fb("Borrowed"))
	} else {
		payload = jen.Append(local("m").Dot("Payload").Index(jen.Empty(), jen.Lit(0)),
			payload.Op("..."))
	}
	g.Add(local("m")).Dot("Payload").Op("=").Add(payload)
}

// initMessage writes the statements that declare the accessor rcv of a message.
func (f *file) initMessage(g *jen.Group, t *topic) {
	root := jen.Lit(0)
	if !t.message.IsStruct {
		root = flatbuffers("GetUOffsetT").Call(local("message"))
	}
	g.Var().Add(local("rcv")).Id(f.objectType(t.message))
	g.Add(local("rcv")).Dot("Init").Call(local("message"), root)
}

// topicParts are the parameters of a callback that gets a message in place, and topicArguments what
// it is called with.
func (f *file) topicParts(t *topic) []jen.Code {
	accessor := ptr(f.objectType(t.message))
	if t.payload {
		return []jen.Code{local("header").Add(accessor), local("payload").Index().Byte()}
	}
	return []jen.Code{local("m").Add(accessor)}
}

func topicArguments(t *topic) []jen.Code {
	accessor := jen.Op("&").Add(local("rcv"))
	if t.payload {
		return []jen.Code{accessor,
			local("message").Index(jen.Lit(t.message.Size), jen.Empty())}
	}
	return []jen.Code{accessor}
}

func (f *file) topicPublisher(t *topic, full string) {
	o := t.message
	base := func() *jen.Statement {
		return topicName("TypedPublisher").Index(f.topicMessage(t))
	}
	f.decl(sentence(article(t.publisher))+" publishes the topic "+full+
		". It is an option of the server at whose channel the topic is found, and safe for "+
		"concurrent use.",
		jen.Type().Id(t.publisher).Struct(jen.Op("*").Add(base())))
	f.decl(t.newPublisher+" makes the publisher; see topic.NewPublisher.",
		jen.Func().Id(t.newPublisher).Params(local("o").Add(topicName("Options"))).
			Add(ptr(t.publisher)).Block(
			jen.Return(jen.Op("&").Id(t.publisher).Values(
				topicName("NewTypedPublisher").Call(jen.Id(t.typ), local("o"))))))
	method := func() *jen.Statement { return jen.Func().Params(local("p").Add(ptr(t.publisher))) }
	if o.IsStruct {
		doc := "Write lets ℓfill write a message where subscribers read it, by mutators; it " +
			"holds an older message at first, and may not be kept. See topic.Publisher."
		params := []jen.Code{ctx()}
		length := jen.Lit(o.Size)
		if t.payload {
			doc = "Write lets ℓfill write a message, with ℓn bytes behind the struct, where " +
				"subscribers read it. Both hold an older message at first, and may not be kept. " +
				"See topic.Publisher."
			params = append(params, local("n").Int())
			length.Op("+").Add(local("n"))
		}
		f.decl(doc, method().Id("Write").Params(append(params,
			local("fill").Func().Params(f.topicParts(t)...).Error())...).Error().
			BlockFunc(func(g *jen.Group) {
				if t.payload {
					g.If(local("n").Op("<").Lit(0)).Block(
						jen.Return(topicName("NegativePayload").Call(jen.Lit(full), local("n"))))
				}
				g.Return(local("p").Dot("Bytes").Call().Dot("Write").Call(local("ctx"), length,
					jen.Func().Params(local("message").Index().Byte()).Error().
						BlockFunc(func(g *jen.Group) {
							f.initMessage(g, t)
							g.Return(local("fill").Call(topicArguments(t)...))
						})))
			}))
	}
	if t.env == nil {
		return
	}
	for _, m := range t.env.members {
		g := []jen.Code{}
		if !m.isText() {
			g = append(g, jen.If(local("m").Op("==").Nil()).Block(
				jen.Return(ipc("NilMessage").Call(jen.Lit(full+"."+m.val.Name)))))
		}
		union := jen.Op("&").Id(f.unionObject(t.env.payload.Type.Enum)).Values(
			value("Type", f.konst(t.env, m)), value("Value", local("m")))
		// Not Publish: what the function calls does not escape, so that the envelope costs no
		// allocation.
		envelope := jen.Id(f.objectObject(o)).Values(
			value(f.plan.fields[t.env.payload].Member, union))
		g = append(g, jen.Return(local("p").Dot("Build").Call(local("ctx"),
			jen.Func().Params(builder()).Error().BlockFunc(func(g *jen.Group) {
				g.Add(local("m")).Op(":=").Add(envelope)
				f.encodeTopic(g, t)
			}))))
		f.decl("Publish"+m.name+" publishes ℓm as a member of "+full+".",
			method().Id("Publish"+m.name).Params(ctx(),
				local("m").Add(f.argument(m))).Error().Block(g...))
	}
}

func (f *file) topicSubscription(t *topic, full string) {
	base := topicName("TypedSubscription").Index(f.topicMessage(t))
	f.decl(sentence(article(t.subscription))+" receives the topic "+full+
		". One goroutine at a time may read, and any may call Close.",
		jen.Type().Id(t.subscription).Struct(jen.Op("*").Add(base)))
	f.decl(t.subscribe+" subscribes to the topic; see topic.Subscribe.",
		jen.Func().Id(t.subscribe).Params(ctx(), local("from").Add(topicName("Source")),
			local("o").Add(topicName("SubscribeOptions"))).
			Params(ptr(t.subscription), jen.Error()).Block(
			jen.List(local("s"), local("err")).Op(":=").Add(topicName("SubscribeTyped")).Call(
				local("ctx"), local("from"), jen.Id(t.typ), local("o")),
			jen.If(local("err").Op("!=").Nil()).Block(jen.Return(jen.Nil(), local("err"))),
			jen.Return(jen.Op("&").Id(t.subscription).Values(local("s")), jen.Nil())))
	method := func() *jen.Statement {
		return jen.Func().Params(local("s").Add(ptr(t.subscription)))
	}
	arrival := func() jen.Code { return local("a").Add(topicName("Arrival")) }
	f.decl("Read waits for a message and passes it to ℓread, which may not keep it. See "+
		"topic.Subscription.",
		method().Id("Read").Params(ctx(),
			local("read").Func().Params(append(f.topicParts(t), arrival())...).Error()).Error().
			Block(jen.Return(local("s").Dot("Bytes").Call().Dot("Read").Call(local("ctx"),
				jen.Func().Params(local("message").Index().Byte(), arrival()).Error().
					BlockFunc(func(g *jen.Group) {
						f.initMessage(g, t)
						g.Return(local("read").Call(append(topicArguments(t), local("a"))...))
					})))))
	if t.env != nil {
		f.topicHandle(t, method())
	}
}

// topicHandle writes the method that passes the members of an envelope to their handlers.
func (f *file) topicHandle(t *topic, method *jen.Statement) {
	payload := local("m").Dot(f.plan.fields[t.env.payload].Member)
	cases := make([]jen.Code, len(t.env.members))
	for i, m := range t.env.members {
		val := payload.Clone().Dot("Value").Assert(f.argument(m))
		cases[i] = jen.Case(f.konst(t.env, m)).Block(
			local("err").Op("=").Add(local("h")).Dot("Handle"+m.name).Call(local("ctx"), val))
	}
	f.decl("Handle receives messages and passes each to the method of ℓh for its member, until "+
		"ℓctx is done, a method returns an error, or the subscription ends. It returns the error. "+
		"A member that this version of the schema does not have is left out.",
		method.Id("Handle").Params(ctx(), local("h").Id(t.env.handler)).Error().Block(
			jen.For(jen.List(local("m"), local("err")).Op(":=").Range().Add(local("s")).Dot("All").
				Call(local("ctx"))).Block(
				jen.If(local("err").Op("!=").Nil()).Block(jen.Return(local("err"))),
				jen.If(payload.Clone().Op("==").Nil()).Block(jen.Continue()),
				jen.Switch(payload.Clone().Dot("Type")).Block(cases...),
				jen.If(local("err").Op("!=").Nil()).Block(jen.Return(local("err"))),
			),
			jen.Return(jen.Nil())))
}
