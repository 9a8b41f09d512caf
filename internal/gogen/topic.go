package gogen

import (
	"github.com/dave/jennifer/jen"
	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// A topic is a struct or table whose values go from one publisher to any number of subscribers.
type topic struct {
	message *schema.Object
	env     *envelope // nil if the message is none

	typ, schema             string
	publisher, newPublisher string
	subscription, subscribe string
}

// isTopic reports whether a type is marked as the message of a topic.
func isTopic(o *schema.Object) bool { return o.Attributes.Has(schema.AttrTopic) }

// planTopics finds the types of a part that are marked as topics.
func (p *plan) planTopics(part *part) {
	for _, o := range part.objects {
		for _, f := range o.Fields {
			p.refuseTopic(f.Attributes, f.Span, "a field")
		}
		if !isTopic(o) {
			continue
		}
		if v, _ := o.Attributes.Lookup(schema.AttrTopic); v != "" {
			p.diags.Errorf(spanOf(o.Attributes, schema.AttrTopic, o.Span),
				"%s of %s has a value, %q", schema.AttrTopic, o.Name, v).
				Helpf("write (%s): the channel that it is published on is chosen in Go",
					schema.AttrTopic)
		}
		p.topics = append(p.topics, p.nameTopic(o))
	}
	for _, e := range part.enums {
		what, value := "an enum", "a value of an enum"
		if e.IsUnion {
			what, value = "a union", "a member of a union"
		}
		p.refuseTopic(e.Attributes, e.Span, what)
		for _, v := range e.Values {
			p.refuseTopic(v.Attributes, v.Span, value)
		}
	}
	for _, s := range part.services {
		p.refuseTopic(s.Attributes, s.Span, "a service")
		for _, m := range s.Methods {
			p.refuseTopic(m.Attributes, m.Span, "a method")
		}
	}
}

// refuseTopic reports the attribute at something that is no message.
func (p *plan) refuseTopic(a schema.Attributes, at diag.Span, what string) {
	if !a.Has(schema.AttrTopic) {
		return
	}
	d := p.diags.Errorf(spanOf(a, schema.AttrTopic, at),
		"a %s is a struct or a table, not %s", schema.AttrTopic, what)
	if what == "a union" || what == "a member of a union" {
		d.Helpf("mark the table that has the union: table M (%s) { of: U; }", schema.AttrTopic)
		return
	}
	d.Helpf("mark the type of the messages: table M (%s) { ... }", schema.AttrTopic)
}

// describeTopic returns the canonical text of a topic: that of the types of its messages.
func describeTopic(t *topic) string {
	d := description{types: make(map[string]string)}
	d.object(t.message)
	return d.text()
}

// topic writes the publisher and the subscription of a topic.
func (f *file) topic(t *topic) {
	o := t.message
	full := fullName(o.Namespace, o.Name)
	description := describeTopic(t)
	d := f.plan.definitionOf(o.Namespace, o.File)
	object := f.objectObject(o)
	f.decl(t.typ+" describes the topic "+full+", whose messages are of this type.",
		jen.Var().Id(t.typ).Op("=").Op("&").Add(composite(
			topicName("Type").Index(jen.Id(object)), f.topicType(t, full, description, d)...)))
	f.decl("", jen.Const().Id(t.schema).Op("=").Add(text(description)))
	f.definition(t, d)
	f.topicPublisher(t, full)
	f.topicSubscription(t, full)
}

func topicName(name string) *jen.Statement { return qualified("topic", name) }

// topicType returns the elements of the variable that describes the messages.
func (f *file) topicType(t *topic, full, description string, d *definition) []jen.Code {
	o, names := t.message, f.plan.objects[t.message]
	object := f.objectObject(o)
	elements := []jen.Code{
		value("Protocol", jen.Op("&").Add(f.protocolOf(t.schema, full, description, d)))}
	if o.IsStruct {
		elements = append(elements, value("Size", jen.Lit(o.Size)))
	} else {
		elements = append(elements, value("Verify",
			jen.Func().Params(local("message").Index().Byte()).Error().Block(
				jen.Return(jen.Id(names.Verify).Call(local("message"))))))
	}
	encode := jen.Func().Params(builder(), local("m").Add(ptr(object))).Error().
		BlockFunc(func(g *jen.Group) {
			g.If(local("m").Op("==").Nil()).Block(jen.Return(ipc("NilMessage").Call(jen.Lit(full))))
			if names.Check != "" {
				g.If(local("err").Op(":=").Add(local("m")).Dot(names.Check).Call(),
					local("err").Op("!=").Nil()).Block(jen.Return(local("err")))
			}
			packed := local("m").Dot("Pack").Call(local("b"))
			if !o.IsStruct {
				packed = jen.Id(names.FinishBuffer).Call(local("b"), packed)
			}
			g.Add(packed)
			g.Return(jen.Nil())
		})
	decode := jen.Func().Params(local("message").Index().Byte(), local("m").Add(ptr(object))).
		BlockFunc(func(g *jen.Group) {
			f.initMessage(g, t)
			g.Add(local("rcv")).Dot("UnPackTo").Call(local("m"))
		})
	return append(elements, value("Encode", encode), value("Decode", decode))
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

func (f *file) topicPublisher(t *topic, full string) {
	o := t.message
	base := func() *jen.Statement {
		return topicName("TypedPublisher").Index(jen.Id(f.objectObject(o)))
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
		f.decl("Write lets ℓfill write a message where subscribers read it, by mutators; it "+
			"holds an older message at first, and may not be kept. See topic.Publisher.",
			method().Id("Write").Params(ctx(),
				local("fill").Func().Params(local("m").Add(ptr(f.objectType(o)))).Error()).Error().
				Block(jen.Return(local("p").Dot("Bytes").Call().Dot("Write").Call(local("ctx"),
					jen.Lit(o.Size),
					jen.Func().Params(local("message").Index().Byte()).Error().
						BlockFunc(func(g *jen.Group) {
							f.initMessage(g, t)
							g.Return(local("fill").Call(jen.Op("&").Add(local("rcv"))))
						})))))
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
		g = append(g, jen.Return(local("p").Dot("Publish").Call(local("ctx"),
			jen.Op("&").Id(f.objectObject(o)).Values(
				value(f.plan.fields[t.env.payload].Member, union)))))
		f.decl("Publish"+m.name+" publishes ℓm as a member of "+full+".",
			method().Id("Publish"+m.name).Params(ctx(),
				local("m").Add(f.argument(m))).Error().Block(g...))
	}
}

func (f *file) topicSubscription(t *topic, full string) {
	o := t.message
	base := topicName("TypedSubscription").Index(jen.Id(f.objectObject(o)))
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
	f.decl("Read waits for a message and passes it to ℓread, which may not keep it. See "+
		"topic.Subscription.",
		method().Id("Read").Params(ctx(),
			local("read").Func().Params(local("m").Add(ptr(f.objectType(o))),
				local("a").Add(topicName("Arrival"))).Error()).Error().
			Block(jen.Return(local("s").Dot("Bytes").Call().Dot("Read").Call(local("ctx"),
				jen.Func().Params(local("message").Index().Byte(),
					local("a").Add(topicName("Arrival"))).Error().
					BlockFunc(func(g *jen.Group) {
						f.initMessage(g, t)
						g.Return(local("read").Call(jen.Op("&").Add(local("rcv")), local("a")))
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
