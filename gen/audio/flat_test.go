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
			t.Fatalf("%+v became %+v, %d and %d; a builder makes %+v, %d and %d", want, *x.UnPack(), xseq, xref, *p.UnPack(), pseq, pref)
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

// request makes an encoder of requests one with both numbers.
func request[P any](encode func(*flatbuffers.Builder, uint64, P) error) func(*flatbuffers.Builder, uint64, uint64, P) error {
	return func(b *flatbuffers.Builder, seq, _ uint64, m P) error { return encode(b, seq, m) }
}

func noRef[P any](P, uint64) {}

func TestConstantLayoutsAreWhatBuildersMake(t *testing.T) {
	sameAsPacked(t, request(encodeControlMsgStartStream), finishControlMsgStartStream, pointer(openControlMsgStartStream), noRef)
	sameAsPacked(t, request(encodeControlMsgStopStream), finishControlMsgStopStream, pointer(openControlMsgStopStream), noRef)
	sameAsPacked(t, request(encodeControlMsgSetParam), finishControlMsgSetParam, pointer(openControlMsgSetParam), noRef)
	sameAsPacked(t, request(encodeControlMsgGetParam), finishControlMsgGetParam, pointer(openControlMsgGetParam), noRef)
	sameAsPacked(t, request(encodeReplyMsgAck), finishReplyMsgAck, pointer(openReplyMsgAck), noRef)
	sameAsPacked(t, encodeReplyMsgAckReply, finishReplyMsgAck, pointer(openReplyMsgAck), func(m *AckT, ref uint64) { m.RefSeq = ref })
	sameAsPacked(t, encodeReplyMsgParamValueReply, finishReplyMsgParamValue, pointer(openReplyMsgParamValue), func(m *ParamValueT, ref uint64) { m.RefSeq = ref })
}

// pointer makes open return a pointer to the accessor.
func pointer[A any](open func([]byte) (A, uint64, uint64, error)) func([]byte) (*A, uint64, uint64, error) {
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
