package golden_test

import (
	"context"
	"math"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/ipcgen/ipcgen/internal/gogen/golden/kitchen"
)

// scale implements a service whose messages have a constant layout, without an
// envelope.
type scale struct{ kitchen.UnimplementedScale }

func (scale) Tare(_ context.Context, req *kitchen.FooT_) (*kitchen.FooTT, error) {
	return &kitchen.FooTT{B: -req.A}, nil
}

func TestConstantLayoutInFrame(t *testing.T) {
	client := kitchen.NewScaleClient(connect(t, kitchen.NewScaleService(scale{})))
	for _, a := range []int32{0, 1, math.MaxInt32} {
		rep, err := client.Tare(t.Context(), &kitchen.FooT_{A: a})
		if err != nil || rep.B != -a {
			t.Errorf("%d: %+v (%v)", a, rep, err)
		}
	}
}

// measurer hands on the scalars it is sent: by a channel, since the race detector
// does not see what shared memory orders.
type measurer struct {
	kitchen.UnimplementedOracle
	got chan *kitchen.ScalarsT
}

func (m *measurer) Measure(_ context.Context, req *kitchen.ScalarsT) (*kitchen.MaybeT, error) {
	m.got <- req
	return new(kitchen.MaybeT), nil
}

// Values of every type arrive, among them those that builders leave out because
// they are the default, and those that equal it without being the same.
func TestConstantLayoutOfEveryScalar(t *testing.T) {
	h := &measurer{got: make(chan *kitchen.ScalarsT, 1)}
	client := kitchen.NewOracleClient(connect(t, kitchen.NewOracleService(h)))
	var unset kitchen.ScalarsT
	defaults := kitchen.ScalarsT{
		B: true, I8: -3, U8: 200, I64: math.MinInt64, U64: math.MaxUint64, F32: 1.5,
		F64: math.Inf(-1),
		Nan: float32(math.NaN()), Color: kitchen.ColorGreen, Level: kitchen.LevelHigh,
		Minus: math.Copysign(0, -1),
	}
	other := kitchen.ScalarsT{
		I8: 1, U8: 2, I16: 3, U16: 4, I32: 5, U32: 6, I64: 7, U64: 8, F32: 9, F64: 10, Nan: 11,
		Color: kitchen.ColorBlue, Big: kitchen.BigHuge, Level: kitchen.LevelLow, Minus: 12,
	}
	pack := func(m *kitchen.ScalarsT) string { // equal, also of NaN, if m is
		b := flatbuffers.NewBuilder(0)
		b.Finish(m.Pack(b))
		return string(b.FinishedBytes())
	}
	for _, m := range []*kitchen.ScalarsT{&unset, &defaults, &other} {
		if _, err := client.Measure(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if got := <-h.got; pack(got) != pack(m) {
			t.Errorf("%+v became %+v", *m, *got)
		}
	}
}
