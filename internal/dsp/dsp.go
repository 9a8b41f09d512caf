// Package dsp is the signal path of the audio demo: a resonant low-pass filter, gain and pan over
// interleaved float32 samples of 1 to 8 channels.
//
// A [Chain] processes frames. What it computes depends on its state, the samples and the changes of
// parameters alone, and not on how the frames are divided into blocks. The state is small, and can
// be saved and loaded between any two frames. So two processes of one build compute the same bits,
// and one can go on where another has stopped.
//
// The package does not know where samples come from: it reads and writes them as little-endian
// bytes, which may be shared memory.
package dsp

import (
	"encoding/binary"
	"fmt"
	"math"
)

// MaxChannels is the largest number of channels of a [Chain].
const MaxChannels = 8

// The sample rates of a [Chain].
const (
	MinRate = 8_000
	MaxRate = 384_000
)

// A Param is a parameter of the signal path.
type Param uint8

// The parameters, in the order of the demo's schema.
const (
	Gain      Param = iota // linear factor
	Pan                    // -1 left, 1 right
	Cutoff                 // of the filter, in hertz
	Resonance              // quality factor of the filter; 0.7 has no peak
	NumParams = int(iota)
)

// A Range is what a parameter may be, and what it is at first.
type Range struct{ Initial, Min, Max float32 }

// Ranges has the range of each parameter.
var Ranges = [NumParams]Range{
	Gain:      {1, 0, 4},
	Pan:       {0, -1, 1},
	Cutoff:    {20_000, 20, 20_000},
	Resonance: {0.7, 0.1, 20},
}

// Check returns an error that names the range if p is unknown or v is not in its range.
func (p Param) Check(v float32) error {
	if int(p) >= NumParams {
		return fmt.Errorf("no parameter %d: there are %d, counted from 0", p, NumParams)
	}
	if r := Ranges[p]; !(v >= r.Min && v <= r.Max) {
		return fmt.Errorf("%v %v is out of range: choose %v to %v", p, v, r.Min, r.Max)
	}
	return nil
}

func (p Param) String() string {
	if int(p) < NumParams {
		return [NumParams]string{"gain", "pan", "cutoff", "resonance"}[p]
	}
	return fmt.Sprintf("Param(%d)", uint8(p))
}

// Values has a value for each parameter.
type Values [NumParams]float32

// InitialValues returns the values at which the parameters start.
func InitialValues() (v Values) {
	for p, r := range Ranges {
		v[p] = r.Initial
	}
	return v
}

// Grid is the number of frames for which the filter keeps its coefficients. The grid is that of the
// stream's frames, so that it does not depend on blocks.
const Grid = 16

// A Change sets a parameter at a frame of a block.
type Change struct {
	Frame int // of the block, from 0
	Param Param
	Value float32
}

const (
	// smoothing is the time in which a parameter covers 63 % of a step. It is short enough to
	// follow a hand, and long enough that a step has no click.
	smoothing = 0.010 // seconds
	// tiny is where the filter's memory becomes 0. Numbers that small are far below any sample, and
	// the processor computes slowly with the denormal ones, to which a filter decays in silence.
	tiny = 1e-30
	// settled is the distance at which a smoothed value takes its target.
	settled = 1e-7
)

// A side is where the loudspeaker of a channel stands.
type side uint8

const (
	centre side = iota
	left
	right
)

// sides has the side of each channel, by the number of channels. The order of channels is that of
// WAVE files without a mask of their own.
var sides = [MaxChannels + 1][MaxChannels]side{
	1: {centre},
	2: {left, right},
	3: {left, right, centre},
	4: {left, right, left, right},
	5: {left, right, centre, left, right},
	6: {left, right, centre, centre, left, right},
	7: {left, right, centre, centre, centre, left, right},
	8: {left, right, centre, centre, left, right, left, right},
}

// A smoothed value follows its target.
type smoothed struct{ value, target float64 }

// step moves the value by the factor k of its distance from the target.
func (s *smoothed) step(k float64) {
	if s.value == s.target {
		return
	}
	d := s.target - s.value
	if math.Abs(d) < settled {
		s.value = s.target
		return
	}
	s.value += float64(d * k)
}

// A history is the memory of the filter of a channel: the last two samples before and behind it.
type history struct{ x1, x2, y1, y2 float64 }

// coefficients are those of a biquad filter, divided by a0.
type coefficients struct{ b0, b1, b2, a1, a2 float64 }

// lowPass returns the coefficients of the low-pass filter of Robert Bristow-Johnson's "Cookbook
// formulae for audio equalizer biquad filter coefficients" (the Audio EQ Cookbook, a note of the
// W3C): H(s) = 1 / (s² + s/Q + 1), by the bilinear transform.
func lowPass(rate, cutoff, q float64) coefficients {
	// The transform maps half of the rate to infinity: a filter there would not be stable.
	w := 2 * math.Pi * min(cutoff, 0.49*rate) / rate
	sin, cos := math.Sincos(w)
	alpha := sin / (2 * q)
	a0 := 1 + alpha
	b1 := (1 - cos) / a0
	return coefficients{b0: b1 / 2, b1: b1, b2: b1 / 2, a1: -2 * cos / a0, a2: (1 - alpha) / a0}
}

// A Chain is the signal path with its state. It is not safe for concurrent use.
type Chain struct {
	rate     uint32
	channels int
	position uint64 // frames so far
	repaired uint64 // samples that were not finite
	values   Values

	gains     [3]smoothed // by side
	octave    smoothed    // the cutoff, as a logarithm to base 2
	resonance smoothed
	memory    [MaxChannels]history

	// Computed from the above.
	filter      coefficients
	fast, slow  float64 // factors of smoothing, for a frame and for a step of the grid
	sideOf      [MaxChannels]side
	filterAsOf  [2]float64 // the octave and the resonance that filter has
	filterValid bool
}

// NewChain returns a chain at frame 0, whose parameters have the values v.
func NewChain(rate uint32, channels int, v Values) (*Chain, error) {
	c := &Chain{}
	return c, c.Reset(rate, channels, v)
}

// Reset makes c as NewChain does, or changes nothing and returns an error.
func (c *Chain) Reset(rate uint32, channels int, v Values) error {
	if err := CheckFormat(int64(rate), channels); err != nil {
		return err
	}
	for p, value := range v {
		if err := Param(p).Check(value); err != nil {
			return err
		}
	}
	*c = Chain{values: v}
	c.setFormat(rate, channels)
	c.aim()
	for i := range c.gains {
		c.gains[i].value = c.gains[i].target
	}
	c.octave.value, c.resonance.value = c.octave.target, c.resonance.target
	return nil
}

// CheckFormat returns an error that says what a chain can process if it cannot process this.
func CheckFormat(rate int64, channels int) error {
	if rate < MinRate || rate > MaxRate {
		return fmt.Errorf("a sample rate of %d Hz: choose %d to %d", rate, MinRate, MaxRate)
	}
	if channels < 1 || channels > MaxChannels {
		return fmt.Errorf("%d channels: choose 1 to %d", channels, MaxChannels)
	}
	return nil
}

func (c *Chain) setFormat(rate uint32, channels int) {
	c.rate, c.channels = rate, channels
	perFrame := 1 / (smoothing * float64(rate))
	c.fast, c.slow = -math.Expm1(-perFrame), -math.Expm1(-Grid*perFrame)
	c.sideOf = sides[channels]
	c.filterValid = false
}

// aim sets the targets of what is smoothed to the values of the parameters.
func (c *Chain) aim() {
	gain, pan := float64(c.values[Gain]), float64(c.values[Pan])
	// A balance of equal power: the side that pan leads away from is turned down, and the other
	// one never up, so that pan cannot overdrive. At pan 0 both factors are exactly 1.
	c.gains[centre].target = gain
	c.gains[left].target = gain * math.Cos(max(pan, 0)*math.Pi/2)
	c.gains[right].target = gain * math.Cos(max(-pan, 0)*math.Pi/2)
	if pan == 1 {
		c.gains[left].target = 0
	}
	if pan == -1 {
		c.gains[right].target = 0
	}
	c.octave.target = math.Log2(float64(c.values[Cutoff]))
	c.resonance.target = float64(c.values[Resonance])
}

// Rate returns the sample rate in hertz.
func (c *Chain) Rate() uint32 { return c.rate }

// Channels returns the number of channels.
func (c *Chain) Channels() int { return c.channels }

// Position returns the number of frames so far.
func (c *Chain) Position() uint64 { return c.position }

// Repaired returns the number of samples so far that were infinite or not a number. They count as
// silence.
func (c *Chain) Repaired() uint64 { return c.repaired }

// Values returns the values that the parameters have, or that they move to.
func (c *Chain) Values() Values { return c.values }

// Process reads frames from in and writes as many to out, which may be the same memory. Both hold
// interleaved little-endian float32 samples. changes must be in the order of their frames. If an
// argument is not valid, Process changes nothing and returns an error. It does not allocate
// otherwise.
func (c *Chain) Process(out, in []byte, changes []Change) error {
	frame := 4 * c.channels
	if len(in)%frame != 0 || len(out) != len(in) {
		return fmt.Errorf("%d bytes in and %d out, in frames of %d", len(in), len(out), frame)
	}
	frames, last := len(in)/frame, 0
	for _, ch := range changes {
		if err := ch.Param.Check(ch.Value); err != nil {
			return err
		}
		if ch.Frame < last || ch.Frame >= max(frames, 1) {
			return fmt.Errorf("a change at frame %d of a block of %d, behind one at %d", ch.Frame,
				frames, last)
		}
		last = ch.Frame
	}
	for at := 0; at < frames; {
		for len(changes) > 0 && changes[0].Frame == at {
			c.values[changes[0].Param] = changes[0].Value
			changes = changes[1:]
			c.aim()
		}
		if c.position%Grid == 0 {
			c.tune()
		} else if !c.filterValid { // loaded between two steps
			c.computeFilter()
		}
		n := min(frames-at, Grid-int(c.position%Grid))
		if len(changes) > 0 {
			n = min(n, changes[0].Frame-at)
		}
		c.run(out[at*frame:(at+n)*frame], in[at*frame:(at+n)*frame])
		c.position += uint64(n)
		at += n
	}
	return nil
}

// tune moves the filter by a step of the grid, and clears what its memory has left of a sound.
func (c *Chain) tune() {
	c.octave.step(c.slow)
	c.resonance.step(c.slow)
	for i := range c.memory[:c.channels] {
		m := &c.memory[i]
		if max(math.Abs(m.x1), math.Abs(m.x2), math.Abs(m.y1), math.Abs(m.y2)) < tiny {
			*m = history{}
		}
	}
	if now := [2]float64{c.octave.value, c.resonance.value}; !c.filterValid || now != c.filterAsOf {
		c.computeFilter()
	}
}

func (c *Chain) computeFilter() {
	c.filterAsOf, c.filterValid = [2]float64{c.octave.value, c.resonance.value}, true
	c.filter = lowPass(float64(c.rate), math.Exp2(c.octave.value), c.resonance.value)
}

// run processes frames between which no parameter changes and the filter stays. The explicit
// conversions keep the compiler from fusing a product with a sum, whose rounding would depend on
// the processor.
func (c *Chain) run(out, in []byte) {
	f := c.filter
	for len(in) > 0 {
		for i := range c.gains {
			c.gains[i].step(c.fast)
		}
		for ch := range c.channels {
			x := float64(math.Float32frombits(binary.LittleEndian.Uint32(in)))
			if x-x != 0 { // an infinity, or not a number
				x = 0
				c.repaired++
			}
			// The direct form I: its memory is samples, which stay what they are when coefficients
			// change. The memory of the other forms has coefficients in it, and would click.
			m := &c.memory[ch]
			y := float64(f.b0*x) + float64(f.b1*m.x1) + float64(f.b2*m.x2) -
				float64(f.a1*m.y1) - float64(f.a2*m.y2)
			m.x1, m.x2, m.y1, m.y2 = x, m.x1, y, m.y1
			y = float64(y * c.gains[c.sideOf[ch]].value)
			y = max(-math.MaxFloat32, min(y, math.MaxFloat32))
			binary.LittleEndian.PutUint32(out, math.Float32bits(float32(y)))
			in, out = in[4:], out[4:]
		}
	}
}
