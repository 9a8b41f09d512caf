package dsp_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/cmplx"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ipcgen/ipcgen/internal/dsp"
)

// pack returns samples as bytes.
func pack(samples ...float32) []byte {
	var b []byte
	for _, s := range samples {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(s))
	}
	return b
}

func unpack(b []byte) (samples []float32) {
	for ; len(b) > 0; b = b[4:] {
		samples = append(samples, math.Float32frombits(binary.LittleEndian.Uint32(b)))
	}
	return samples
}

func chain(t testing.TB, rate uint32, channels int, v dsp.Values) *dsp.Chain {
	t.Helper()
	c, err := dsp.NewChain(rate, channels, v)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// with returns the initial values with one changed.
func with(p dsp.Param, x float32) dsp.Values {
	v := dsp.InitialValues()
	v[p] = x
	return v
}

func process(t testing.TB, c *dsp.Chain, in []byte, changes ...dsp.Change) []byte {
	t.Helper()
	out := make([]byte, len(in))
	if err := c.Process(out, in, changes); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestFilterResponse compares the spectrum of the impulse response with the transfer function of
// the analogue prototype, 1 / (s² + s/Q + 1), at the frequencies to which the bilinear transform
// maps it.
func TestFilterResponse(t *testing.T) {
	for _, f := range []struct {
		rate      uint32
		cutoff, q float32
	}{{48_000, 1_000, 0.7071}, {44_100, 5_000, 4}, {96_000, 200, 10}, {8_000, 3_000, 0.1}} {
		v := with(dsp.Cutoff, f.cutoff)
		v[dsp.Resonance] = f.q
		impulse := make([]byte, 4*4*int(f.rate))
		copy(impulse, pack(1))
		h := unpack(process(t, chain(t, f.rate, 1, v), impulse))
		warp := func(hz float64) float64 { return math.Tan(math.Pi * hz / float64(f.rate)) }
		for _, part := range []float64{0.01, 0.1, 0.5, 0.9, 1, 1.1, 1.3} {
			hz := float64(f.cutoff) * part
			w := -2 * math.Pi * hz / float64(f.rate)
			var got complex128
			for n, x := range h {
				got += complex(float64(x), 0) * cmplx.Rect(1, w*float64(n))
			}
			s := complex(0, warp(hz)/warp(float64(f.cutoff)))
			want := 1 / (s*s + s/complex(float64(f.q), 0) + 1)
			if cmplx.Abs(got-want) > 2e-4*max(1, cmplx.Abs(want)) {
				t.Errorf("%+v at %v Hz: %v, want %v", f, hz, got, want)
			}
		}
	}
}

// TestGainAndPan checks the factor of each channel, of a constant signal, in every format.
func TestGainAndPan(t *testing.T) {
	const half = 0.70710678
	for _, c := range []struct {
		gain, pan float32
		want      [][]float32
	}{
		{0.5, 0, [][]float32{{.5}, {.5, .5}, {.5, .5, .5}, {.5, .5, .5, .5}}},
		{1, 1, [][]float32{{1}, {0, 1}, {0, 1, 1}, {0, 1, 0, 1}, {0, 1, 1, 0, 1},
			{0, 1, 1, 1, 0, 1}, {0, 1, 1, 1, 1, 0, 1}, {0, 1, 1, 1, 0, 1, 0, 1}}},
		{1, -1, [][]float32{{1}, {1, 0}}},
		{2, -0.5, [][]float32{{2}, {2, 2 * half}}},
		{0, 0, [][]float32{{0}, {0, 0}}},
	} {
		for _, want := range c.want {
			v := with(dsp.Gain, c.gain)
			v[dsp.Pan] = c.pan
			const frames = 4_800
			in := bytes.Repeat(pack(1), frames*len(want))
			out := unpack(process(t, chain(t, 48_000, len(want), v), in))
			for ch, w := range want {
				if got := out[(frames-1)*len(want)+ch]; math.Abs(float64(got-w)) > 1e-6 {
					t.Errorf("gain %v, pan %v: channel %d of %d has %v, want %v", c.gain, c.pan, ch,
						len(want), got, w)
				}
			}
		}
	}
}

// TestNoZipperNoise steps each parameter over its whole range, under a constant and under a sine of
// 440 Hz, and measures the largest step between two samples. A click would be as large as the
// change of the signal, 0.5 and more.
func TestNoZipperNoise(t *testing.T) {
	const frames, amplitude = 48_000, 0.5
	constant := bytes.Repeat(pack(amplitude), frames)
	var sine []byte
	for n := range frames {
		sine = append(sine, pack(float32(amplitude*math.Sin(2*math.Pi*440*float64(n)/48_000)))...)
	}
	for p := range dsp.Param(dsp.NumParams) {
		for name, in := range map[string][]byte{"constant": constant, "sine": sine} {
			v := dsp.InitialValues()
			v[p] = dsp.Ranges[p].Min
			c := chain(t, 48_000, 1, v)
			process(t, c, in) // the filter settles
			largest, last := 0.0, float32(math.NaN())
			for _, x := range unpack(process(t, c, in, dsp.Change{Frame: 1_003, Param: p,
				Value: dsp.Ranges[p].Max})) {
				if last == last {
					largest = max(largest, math.Abs(float64(x-last)))
				}
				last = x
			}
			// A smoothed step of the gain by 4 begins with a slope of 4 / (rate × 10 ms).
			loudest := 1.0
			if p == dsp.Gain {
				loudest = 4
			}
			limit := amplitude * (4/480.0 + 1.2*loudest*2*math.Pi*440/48_000)
			if largest > limit {
				t.Errorf("%v, %s: a step of %v, want at most %v", p, name, largest, limit)
			}
			if got := c.Values()[p]; got != dsp.Ranges[p].Max {
				t.Errorf("%v is %v behind the change", p, got)
			}
		}
	}
}

// song is a random signal with random changes of parameters, at positions of the whole.
func song(rng *rand.Rand, channels, frames int) (in []byte, changes []dsp.Change) {
	for range channels * frames {
		in = append(in, pack(rng.Float32()*2-1)...)
	}
	for range rng.IntN(20) {
		p := dsp.Param(rng.IntN(dsp.NumParams))
		r := dsp.Ranges[p]
		changes = append(changes, dsp.Change{Frame: rng.IntN(frames), Param: p,
			Value: r.Min + rng.Float32()*(r.Max-r.Min)})
	}
	slices.SortStableFunc(changes, func(a, b dsp.Change) int { return a.Frame - b.Frame })
	return in, changes
}

// inBlocks processes a song in random blocks, and moves its state to another chain between them.
func inBlocks(t testing.TB, rng *rand.Rand, c *dsp.Chain, in []byte, changes []dsp.Change) []byte {
	t.Helper()
	var out []byte
	for frame, at := 4*c.Channels(), 0; len(in) > 0; {
		n := min(1+rng.IntN(300), len(in)/frame)
		var here []dsp.Change
		for len(changes) > 0 && changes[0].Frame < at+n {
			ch := changes[0]
			ch.Frame -= at
			here, changes = append(here, ch), changes[1:]
		}
		out = append(out, process(t, c, in[:n*frame], here...)...)
		in, at = in[n*frame:], at+n
		if rng.IntN(3) == 0 {
			state := make([]byte, dsp.StateSize)
			c.Save(state)
			c = &dsp.Chain{}
			if err := c.Load(state); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out
}

// TestBlocksDoNotMatter processes songs at once and in random blocks, between which the state moves
// to another chain at random: the results are equal to the last bit.
func TestBlocksDoNotMatter(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		channels := 1 + rng.IntN(dsp.MaxChannels)
		in, changes := song(rng, channels, 3_000)
		v := dsp.InitialValues()
		want := process(t, chain(t, 48_000, channels, v), in, changes...)
		got := inBlocks(t, rng, chain(t, 48_000, channels, v), in, changes)
		if !bytes.Equal(got, want) {
			t.Fatalf("seed %d: the results differ", seed)
		}
	}
}

// TestInPlace has the output take the place of the input.
func TestInPlace(t *testing.T) {
	in, changes := song(rand.New(rand.NewPCG(1, 1)), 2, 1_000)
	v := dsp.InitialValues()
	want := process(t, chain(t, 48_000, 2, v), in, changes...)
	if err := chain(t, 48_000, 2, v).Process(in, in, changes); err != nil ||
		!bytes.Equal(in, want) {
		t.Errorf("in place the result is another one (%v)", err)
	}
}

// TestNotFinite feeds samples that are not finite: each is silence and is counted, and the chain
// goes on as if nothing had been.
func TestNotFinite(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	c := chain(t, 48_000, 2, with(dsp.Gain, 4))
	process(t, c, pack(nan, inf, -inf, 1, nan, nan))
	if c.Repaired() != 5 {
		t.Errorf("%d samples were repaired, want 5", c.Repaired())
	}
	huge := process(t, c, bytes.Repeat(pack(math.MaxFloat32, -math.MaxFloat32), 1_000))
	for _, x := range append(unpack(huge), unpack(process(t, c, make([]byte, 8_000)))...) {
		if x-x != 0 {
			t.Fatalf("a sample of the output is %v", x)
		}
	}
}

// TestSilenceHasNoDenormals lets the filter decay: its memory becomes 0, where the processor would
// slow down otherwise.
func TestSilenceHasNoDenormals(t *testing.T) {
	c := chain(t, 48_000, 1, with(dsp.Cutoff, 100))
	process(t, c, pack(1, 1, 1))
	process(t, c, make([]byte, 4*480_000))
	state, silent := make([]byte, dsp.StateSize), make([]byte, dsp.StateSize)
	c.Save(state)
	fresh := chain(t, 48_000, 1, with(dsp.Cutoff, 100))
	process(t, fresh, make([]byte, 4*480_003))
	fresh.Save(silent)
	if !bytes.Equal(state, silent) {
		t.Errorf("the state after ten seconds of silence is\n% x\nwant\n% x", state, silent)
	}
}

func TestInvalid(t *testing.T) {
	v := dsp.InitialValues()
	for name, err := range map[string]error{
		"rate":     second(dsp.NewChain(7_999, 2, v)),
		"channels": second(dsp.NewChain(48_000, 9, v)),
		"gain":     second(dsp.NewChain(48_000, 2, with(dsp.Gain, 5))),
		"not a number": second(dsp.NewChain(48_000, 2,
			with(dsp.Cutoff, float32(math.NaN())))),
		"parameter":    dsp.Param(9).Check(0),
		"half a frame": chain(t, 48_000, 2, v).Process(make([]byte, 4), make([]byte, 4), nil),
		"lengths":      chain(t, 48_000, 2, v).Process(make([]byte, 8), make([]byte, 16), nil),
		"late change": chain(t, 48_000, 1, v).Process(make([]byte, 4), make([]byte, 4),
			[]dsp.Change{{Frame: 1, Param: dsp.Gain, Value: 1}}),
		"order": chain(t, 48_000, 1, v).Process(make([]byte, 12), make([]byte, 12),
			[]dsp.Change{{Frame: 2, Value: 1}, {Frame: 1, Value: 1}}),
		"value": chain(t, 48_000, 1, v).Process(make([]byte, 4), make([]byte, 4),
			[]dsp.Change{{Param: dsp.Pan, Value: 2}}),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestAllocatesNothing processes, saves and loads.
func TestAllocatesNothing(t *testing.T) {
	c := chain(t, 48_000, 2, dsp.InitialValues())
	block, state := make([]byte, 1_024), make([]byte, dsp.StateSize)
	changes := []dsp.Change{{Frame: 3, Param: dsp.Gain, Value: 0.5}}
	if n := testing.AllocsPerRun(100, func() {
		if err := c.Process(block, block, changes); err != nil {
			t.Fatal(err)
		}
		c.Save(state)
		if err := c.Load(state); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a block", n)
	}
}

// FuzzLoad loads states of any content: those that are taken work and are saved as they were.
func FuzzLoad(f *testing.F) {
	c := chain(f, 48_000, 2, dsp.InitialValues())
	state := make([]byte, dsp.StateSize)
	c.Save(state)
	f.Add(state)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, state []byte) {
		c := &dsp.Chain{}
		if c.Load(state) != nil {
			return
		}
		again := make([]byte, dsp.StateSize)
		c.Save(again)
		if err := (&dsp.Chain{}).Load(again); err != nil {
			t.Fatal(err)
		}
		for _, x := range unpack(process(t, c, make([]byte, 4*c.Channels()*40))) {
			if x != x {
				t.Fatal("the output is not a number")
			}
		}
	})
}

// FuzzBlocks is TestBlocksDoNotMatter for samples of any content.
func FuzzBlocks(f *testing.F) {
	f.Add(uint64(1), pack(1, float32(math.NaN()), math.MaxFloat32))
	f.Fuzz(func(t *testing.T, seed uint64, in []byte) {
		rng := rand.New(rand.NewPCG(seed, 1))
		channels := 1 + rng.IntN(dsp.MaxChannels)
		in = in[:len(in)/(4*channels)*4*channels]
		v := dsp.InitialValues()
		want := process(t, chain(t, 48_000, channels, v), in)
		got := inBlocks(t, rng, chain(t, 48_000, channels, v), in, nil)
		if !bytes.Equal(got, want) {
			t.Error("the results differ")
		}
	})
}

// BenchmarkProcess is a block of 128 frames with 2 channels.
func BenchmarkProcess(b *testing.B) {
	c := chain(b, 48_000, 2, dsp.InitialValues())
	block := bytes.Repeat(pack(0.5), 256)
	out := make([]byte, len(block))
	b.SetBytes(int64(len(block)))
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Process(out, block, nil); err != nil {
			b.Fatal(err)
		}
	}
}
