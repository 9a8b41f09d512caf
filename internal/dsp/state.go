package dsp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// The state of a chain, all of it little-endian:
//
//	version          4 bytes
//	rate             4 bytes
//	channels         8 bytes
//	position         8 bytes
//	repaired         8 bytes
//	values           a 4-byte float each
//	gains            value and target of each side, 8-byte floats
//	octave           value and target
//	resonance        value and target
//	memory           four 8-byte floats for each of the 8 channels
const (
	stateVersion = 1
	// StateSize is the length of a saved state.
	StateSize = 4 + 4 + 8 + 8 + 8 + 4*NumParams + 16*5 + 32*MaxChannels
)

// loudest is more than the memory of a filter can have after the loudest samples.
const loudest = 1e60

// Save writes the state of c to dst, which must have [StateSize] bytes.
func (c *Chain) Save(dst []byte) {
	le := binary.LittleEndian
	_ = dst[StateSize-1]
	le.PutUint32(dst, stateVersion)
	le.PutUint32(dst[4:], c.rate)
	le.PutUint64(dst[8:], uint64(c.channels))
	le.PutUint64(dst[16:], c.position)
	le.PutUint64(dst[24:], c.repaired)
	dst = dst[32:]
	for _, v := range c.values {
		le.PutUint32(dst, math.Float32bits(v))
		dst = dst[4:]
	}
	for _, s := range [...]smoothed{c.gains[0], c.gains[1], c.gains[2], c.octave, c.resonance} {
		le.PutUint64(dst, math.Float64bits(s.value))
		le.PutUint64(dst[8:], math.Float64bits(s.target))
		dst = dst[16:]
	}
	for _, m := range c.memory {
		for _, v := range [...]float64{m.x1, m.x2, m.y1, m.y2} {
			le.PutUint64(dst, math.Float64bits(v))
			dst = dst[8:]
		}
	}
}

// Load takes over a saved state, or changes nothing and returns an error. The state may come from
// a process that is not trusted: one that no chain could have is refused.
func (c *Chain) Load(src []byte) error {
	le := binary.LittleEndian
	if len(src) != StateSize {
		return fmt.Errorf("a state of %d bytes, want %d", len(src), StateSize)
	}
	if v := le.Uint32(src); v != stateVersion {
		return fmt.Errorf("a state of version %d, want %d; run one version of the service", v,
			stateVersion)
	}
	rate, channels := le.Uint32(src[4:]), le.Uint64(src[8:])
	if err := CheckFormat(int64(rate), int(min(channels, MaxChannels+1))); err != nil {
		return fmt.Errorf("damaged state: %w", err)
	}
	n := Chain{position: le.Uint64(src[16:]), repaired: le.Uint64(src[24:])}
	src = src[32:]
	for i := range n.values {
		n.values[i] = math.Float32frombits(le.Uint32(src))
		if err := Param(i).Check(n.values[i]); err != nil {
			return fmt.Errorf("damaged state: %w", err)
		}
		src = src[4:]
	}
	finite := true
	next := func() float64 {
		v := math.Float64frombits(le.Uint64(src))
		src = src[8:]
		finite = finite && v-v == 0
		return v
	}
	for _, s := range [...]*smoothed{&n.gains[0], &n.gains[1], &n.gains[2], &n.octave,
		&n.resonance} {
		s.value, s.target = next(), next()
	}
	for i := range n.memory {
		m := &n.memory[i]
		for _, v := range [...]*float64{&m.x1, &m.x2, &m.y1, &m.y2} {
			*v = next()
			finite = finite && math.Abs(*v) < loudest
		}
	}
	for _, g := range n.gains {
		finite = finite && g.value >= 0 && g.value <= float64(Ranges[Gain].Max)
	}
	if !finite || !within(n.octave.value, Cutoff, math.Log2) ||
		!within(n.resonance.value, Resonance, func(v float64) float64 { return v }) {
		return errors.New("damaged state: values that the signal path cannot have")
	}
	n.setFormat(rate, int(channels))
	n.aim()
	*c = n
	return nil
}

// within reports whether v is within what f makes of the range of p.
func within(v float64, p Param, f func(float64) float64) bool {
	const slack = 1e-3
	return v >= f(float64(Ranges[p].Min))-slack && v <= f(float64(Ranges[p].Max))+slack
}
