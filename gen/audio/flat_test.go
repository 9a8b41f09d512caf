package audio

import (
	"bytes"
	"math"
	"math/rand"
	"reflect"
	"testing"
	"testing/quick"

	flatbuffers "github.com/google/flatbuffers/go"
)

// An object is what a message is as a Go value.
type object[T any] interface {
	*T
	Pack(*flatbuffers.Builder) flatbuffers.UOffsetT
}

// An accessor reads a message in its buffer.
type accessor[P any] interface{ UnPack() P }

// sameAsPacked checks that encode, which writes messages of constant layout,
// makes what a builder makes of the same values.
func sameAsPacked[T any, P object[T], A accessor[P]](t *testing.T,
	encode func(b *flatbuffers.Builder, seq, refSeq uint64, m P) error,
	finish func(b *flatbuffers.Builder, seq, refSeq uint64, m flatbuffers.UOffsetT),
	open func([]byte) (A, uint64, uint64, error), setRef func(P, uint64)) {
	t.Helper()
	b, packed := flatbuffers.NewBuilder(0), flatbuffers.NewBuilder(0)
	pack := func(m P) []byte { // equal, also of NaN, if m is
		packed.Reset()
		packed.Finish(m.Pack(packed))
		return packed.FinishedBytes()
	}
	random := rand.New(rand.NewSource(1))
	for i := range 500 {
		m := P(new(T))
		var seq, refSeq uint64
		if i > 0 { // the first has the default of every type
			v, _ := quick.Value(reflect.TypeFor[T](), random)
			*m = v.Interface().(T)
			seq, refSeq = random.Uint64(), random.Uint64()
		}
		if f := reflect.ValueOf(m).Elem().FieldByName("Value"); i%4 == 1 && f.IsValid() {
			f.SetFloat(math.NaN())
		}
		want := *m
		setRef(&want, refSeq)
		packed.Reset()
		finish(packed, seq, refSeq, P(&want).Pack(packed))
		p, pseq, pref, err := open(packed.FinishedBytes())
		if err != nil {
			t.Fatal(err)
		}
		wantBytes := bytes.Clone(pack(p.UnPack()))
		b.Reset()
		if err := encode(b, seq, refSeq, m); err != nil {
			t.Fatal(err)
		}
		x, xseq, xref, err := open(b.FinishedBytes())
		if err != nil {
			t.Fatalf("%+v: %v", *m, err)
		}
		if !bytes.Equal(pack(x.UnPack()), wantBytes) || xseq != pseq || xref != pref {
			t.Fatalf("%+v became %+v, %d and %d; a builder makes %+v, %d and %d", want, *x.UnPack(),
				xseq, xref, *p.UnPack(), pseq, pref)
		}
	}
	if err := encode(b, 1, 2, nil); err == nil {
		t.Error("nil was encoded")
	}
	m := P(new(T))
	if n := testing.AllocsPerRun(100, func() {
		b.Reset()
		encode(b, 1, 2, m)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// sameAsOpened checks that decode, which knows messages of constant layout at a
// look, reads what the general way reads, from such messages, from those of a builder,
// and from any that differ from them in a byte.
func sameAsOpened[T any, P object[T], A accessor[P]](t *testing.T,
	encode func(b *flatbuffers.Builder, seq, refSeq uint64, m P) error,
	finish func(b *flatbuffers.Builder, seq, refSeq uint64, m flatbuffers.UOffsetT),
	decode func([]byte, P) (uint64, error),
	open func([]byte) (A, uint64, uint64, error), reply bool) {
	t.Helper()
	pack := func(m P) []byte {
		b := flatbuffers.NewBuilder(0)
		b.Finish(m.Pack(b))
		return b.FinishedBytes()
	}
	check := func(buf []byte) (ok bool) {
		t.Helper()
		got := P(new(T))
		number, err := decode(buf, got)
		x, seq, refSeq, want := open(buf)
		if reply {
			seq = refSeq
		}
		if (err == nil) != (want == nil) || err == nil &&
			(number != seq || !bytes.Equal(pack(got), pack(x.UnPack()))) {
			t.Fatalf("decode: %+v, %d, %v; open: %d, %v; of %x", *got, number, err, seq, want, buf)
		}
		return err == nil
	}
	random := rand.New(rand.NewSource(2))
	b := flatbuffers.NewBuilder(0)
	for range 20 {
		m := P(new(T))
		v, _ := quick.Value(reflect.TypeFor[T](), random)
		*m = v.Interface().(T)
		b.Reset()
		if err := encode(b, random.Uint64(), random.Uint64(), m); err != nil {
			t.Fatal(err)
		}
		flat := bytes.Clone(b.FinishedBytes())
		b.Reset()
		finish(b, random.Uint64(), random.Uint64(), m.Pack(b))
		for _, buf := range [][]byte{flat, b.FinishedBytes()} {
			if !check(buf) {
				t.Fatalf("%x is refused", buf)
			}
			for i := range buf {
				before := buf[i]
				for _, other := range []byte{before + 1, before ^ 0x80, byte(random.Int())} {
					buf[i] = other
					check(buf)
				}
				buf[i] = before
				check(buf[:i])
			}
			check(append(bytes.Clone(buf), make([]byte, 8)...))
		}
	}
}

func TestConstantLayoutsAreReadAsAnyOthers(t *testing.T) {
	sameAsOpened(t, request(encodeControlMsgStartStream), finishControlMsgStartStream,
		decodeControlMsgStartStream, pointer(openControlMsgStartStream), false)
	sameAsOpened(t, request(encodeControlMsgStopStream), finishControlMsgStopStream,
		decodeControlMsgStopStream, pointer(openControlMsgStopStream), false)
	sameAsOpened(t, request(encodeControlMsgSetParam), finishControlMsgSetParam,
		decodeControlMsgSetParam, pointer(openControlMsgSetParam), false)
	sameAsOpened(t, request(encodeControlMsgGetParam), finishControlMsgGetParam,
		decodeControlMsgGetParam, pointer(openControlMsgGetParam), false)
	sameAsOpened(t, encodeReplyMsgAckReply, finishReplyMsgAck, decodeReplyMsgAckReply,
		pointer(openReplyMsgAck), true)
	sameAsOpened(t, encodeReplyMsgParamValueReply, finishReplyMsgParamValue,
		decodeReplyMsgParamValueReply, pointer(openReplyMsgParamValue), true)
}

// sameInPlace checks that place makes what encode makes, of a message that was built field by
// field, or what finish makes where that has no room; and that view reads what open reads.
func sameInPlace[T any, P object[T], A accessor[P]](t *testing.T,
	encode func(b *flatbuffers.Builder, seq, refSeq uint64, m P) error,
	finish, place func(b *flatbuffers.Builder, seq, refSeq uint64, m flatbuffers.UOffsetT),
	open, view func([]byte) (A, uint64, uint64, error)) {
	t.Helper()
	random := rand.New(rand.NewSource(3))
	for i := range 100 {
		m := P(new(T))
		if i > 0 { // the first has the default of every type
			v, _ := quick.Value(reflect.TypeFor[T](), random)
			*m = v.Interface().(T)
		}
		seq, refSeq := random.Uint64(), random.Uint64()
		for room := range 160 {
			flat, general, b := flatbuffers.NewBuilder(256), flatbuffers.NewBuilder(256),
				flatbuffers.NewBuilder(room)
			if err := encode(flat, seq, refSeq, m); err != nil {
				t.Fatal(err)
			}
			finish(general, seq, refSeq, m.Pack(general))
			place(b, seq, refSeq, m.Pack(b))
			buf := b.FinishedBytes()
			if !bytes.Equal(buf, flat.FinishedBytes()) &&
				(room >= len(flat.FinishedBytes())+8 ||
					!bytes.Equal(buf, general.FinishedBytes())) {
				t.Fatalf("%+v with room for %d became %x; want %x or %x", *m, room, buf,
					flat.FinishedBytes(), general.FinishedBytes())
			}
			x, xseq, xref, xerr := open(buf)
			y, yseq, yref, yerr := view(buf)
			if xerr != nil || yerr != nil || !reflect.DeepEqual(x, y) || xseq != yseq ||
				xref != yref {
				t.Fatalf("open: %+v, %d, %d, %v; view: %+v, %d, %d, %v", x, xseq, xref, xerr,
					y, yseq, yref, yerr)
			}
		}
	}
}

func TestConstantLayoutsInPlace(t *testing.T) {
	sameInPlace(t, request(encodeControlMsgStartStream), finishControlMsgStartStream,
		placeControlMsgStartStream, pointer(openControlMsgStartStream),
		pointer(viewControlMsgStartStream))
	sameInPlace(t, request(encodeControlMsgStopStream), finishControlMsgStopStream,
		placeControlMsgStopStream, pointer(openControlMsgStopStream),
		pointer(viewControlMsgStopStream))
	sameInPlace(t, request(encodeReplyMsgAck), finishReplyMsgAck, placeReplyMsgAck,
		pointer(openReplyMsgAck), pointer(viewReplyMsgAck))
	sameInPlace(t, request(encodeReplyMsgParamValue), finishReplyMsgParamValue,
		placeReplyMsgParamValue, pointer(openReplyMsgParamValue), pointer(viewReplyMsgParamValue))
}

// request makes an encoder of requests one with both numbers.
func request[P any](encode func(*flatbuffers.Builder, uint64, P) error) func(*flatbuffers.Builder,
	uint64, uint64, P) error {
	return func(b *flatbuffers.Builder, seq, _ uint64, m P) error { return encode(b, seq, m) }
}

func noRef[P any](P, uint64) {}

func TestConstantLayoutsAreWhatBuildersMake(t *testing.T) {
	sameAsPacked(t, request(encodeControlMsgStartStream), finishControlMsgStartStream,
		pointer(openControlMsgStartStream), noRef)
	sameAsPacked(t, request(encodeControlMsgStopStream), finishControlMsgStopStream,
		pointer(openControlMsgStopStream), noRef)
	sameAsPacked(t, request(encodeControlMsgSetParam), finishControlMsgSetParam,
		pointer(openControlMsgSetParam), noRef)
	sameAsPacked(t, request(encodeControlMsgGetParam), finishControlMsgGetParam,
		pointer(openControlMsgGetParam), noRef)
	sameAsPacked(t, request(encodeReplyMsgAck), finishReplyMsgAck, pointer(openReplyMsgAck), noRef)
	sameAsPacked(t, encodeReplyMsgAckReply, finishReplyMsgAck, pointer(openReplyMsgAck),
		func(m *AckT, ref uint64) {
			m.RefSeq = ref
		})
	sameAsPacked(t, encodeReplyMsgParamValueReply, finishReplyMsgParamValue,
		pointer(openReplyMsgParamValue), func(m *ParamValueT, ref uint64) {
			m.RefSeq = ref
		})
}

// pointer makes open return a pointer to the accessor.
func pointer[A any](open func([]byte) (A, uint64, uint64, error)) func([]byte) (*A, uint64,
	uint64, error) {
	return func(buf []byte) (*A, uint64, uint64, error) {
		m, seq, refSeq, err := open(buf)
		return &m, seq, refSeq, err
	}
}

func BenchmarkEncode(b *testing.B) {
	m := &SetParamT{ParamId: ParamTypePan, Value: 0.5}
	builder := flatbuffers.NewBuilder(256)
	b.Run("constant layout", func(b *testing.B) {
		for b.Loop() {
			builder.Reset()
			encodeControlMsgSetParam(builder, 7, m)
		}
	})
	b.Run("builder", func(b *testing.B) {
		for b.Loop() {
			builder.Reset()
			finishControlMsgSetParam(builder, 7, 0, m.Pack(builder))
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	m := &SetParamT{ParamId: ParamTypePan, Value: 0.5}
	builder := flatbuffers.NewBuilder(256)
	run := func(name string, buf []byte) {
		buf = bytes.Clone(buf)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := decodeControlMsgSetParam(buf, m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	encodeControlMsgSetParam(builder, 7, m)
	run("constant layout", builder.FinishedBytes())
	builder.Reset()
	finishControlMsgSetParam(builder, 7, 0, m.Pack(builder))
	run("builder", builder.FinishedBytes())
}
