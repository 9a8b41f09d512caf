// Package audioblock is the layout of the raw bytes behind an AudioBufferHeader, in both
// directions, as schema/audio_protocol.fbs describes it.
package audioblock

import (
	"fmt"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/dsp"
)

const (
	// MaxChanges is how many changes of parameters a block can have.
	MaxChanges = 255
	// sizes of the structs behind the samples
	changeSize   = 12
	controlsSize = 24

	flagState    = uint16(audio.BlockFlagState)
	changesShift = 8
)

// MostBytes returns the longest payload of a block with so many bytes of samples, in either
// direction.
func MostBytes(samples int) int {
	return samples + MaxChanges*changeSize + dsp.StateSize + controlsSize
}

// PutTicket makes a block a ticket, by which the two streams of a client find each other: the first
// block of the stream of answers is one, and the client sends it back as its first block.
func PutTicket(h *audio.AudioBufferHeader, ticket uint64) {
	h.MutateSequence(ticket)
	h.MutateTimestampUs(0)
	h.MutateFrames(0)
	h.MutateChannels(0)
	h.MutateFlags(0)
}

// Ticket returns the number of a ticket.
func Ticket(h *audio.AudioBufferHeader, payload []byte) (ticket uint64, err error) {
	if frames := h.Frames(); frames != 0 || len(payload) != 0 {
		return 0, fmt.Errorf("the first block has %d frames and %d bytes, and is no ticket; "+
			"run one version of the service", frames, len(payload))
	}
	return h.Sequence(), nil
}

// A Block is what is behind the header of a block that a client writes: parts of one payload.
type Block struct {
	Samples []byte
	changes []byte
	// State is nil if the block has none.
	State []byte
}

// BlockBytes returns the length of a payload.
func BlockBytes(samples, changes int, state bool) int {
	n := samples + changes*changeSize
	if state {
		n += dsp.StateSize
	}
	return n
}

// Flags returns the flags of a block.
func Flags(changes int, state bool) uint16 {
	f := uint16(changes) << changesShift
	if state {
		f |= flagState
	}
	return f
}

// Split returns the parts of a payload. The header and the payload may be changed meanwhile by a
// process that is not trusted: each value is read once.
func Split(h *audio.AudioBufferHeader, payload []byte) (Block, error) {
	flags, channels, frames := h.Flags(), int(h.Channels()), int64(h.Frames())
	if flags&0xFF&^flagState != 0 {
		return Block{}, fmt.Errorf("a block with the flags %#x; run one version of the service",
			flags)
	}
	changes, state := int(flags>>changesShift), flags&flagState != 0
	samples := int64(len(payload) - BlockBytes(0, changes, state))
	if channels == 0 || samples != frames*int64(channels)*4 {
		return Block{}, fmt.Errorf("a block of %d bytes, for %d frames of %d channels and %d "+
			"changes", len(payload), frames, channels, changes)
	}
	b := Block{Samples: payload[:samples]}
	payload = payload[samples:]
	b.changes, payload = payload[:changes*changeSize], payload[changes*changeSize:]
	if state {
		b.State = payload
	}
	return b, nil
}

// AppendChanges appends the changes in the block to dst.
func (b *Block) AppendChanges(dst []dsp.Change) []dsp.Change {
	var rcv audio.ParamChange
	for at := 0; at < len(b.changes); at += changeSize {
		rcv.Init(b.changes, flatbuffers.UOffsetT(at))
		dst = append(dst, dsp.Change{Frame: int(rcv.Frame()), Param: dsp.Param(rcv.ParamId()),
			Value: rcv.Value()})
	}
	return dst
}

// PutChanges writes changes behind the samples of a payload.
func PutChanges(payload []byte, samples int, changes []dsp.Change) {
	var rcv audio.ParamChange
	clear(payload[samples : samples+len(changes)*changeSize]) // the padding
	for i, c := range changes {
		rcv.Init(payload, flatbuffers.UOffsetT(samples+i*changeSize))
		rcv.MutateFrame(uint32(c.Frame))
		rcv.MutateValue(c.Value)
		rcv.MutateParamId(audio.ParamType(c.Param))
	}
}

// An Answer is what is behind the header of an answer: parts of one payload.
type Answer struct {
	Samples, State []byte
	controls       []byte
}

// AnswerBytes returns the length of the payload of an answer.
func AnswerBytes(samples int) int { return samples + dsp.StateSize + controlsSize }

// SplitAnswer returns the parts of the payload of an answer to a block with so many bytes of
// samples.
func SplitAnswer(payload []byte, samples int) (Answer, error) {
	if len(payload) != AnswerBytes(samples) {
		return Answer{}, fmt.Errorf("an answer of %d bytes, want %d", len(payload),
			AnswerBytes(samples))
	}
	state := payload[samples : samples+dsp.StateSize]
	return Answer{payload[:samples], state, payload[samples+dsp.StateSize:]}, nil
}

// Controls returns the parameters as SetParam has left them, and how often it was called.
func (a *Answer) Controls() (changes uint64, v dsp.Values) {
	var rcv audio.Controls
	rcv.Init(a.controls, 0)
	return rcv.Changes(), dsp.Values{dsp.Gain: rcv.Gain(), dsp.Pan: rcv.Pan(),
		dsp.Cutoff: rcv.FilterCutoff(), dsp.Resonance: rcv.FilterResonance()}
}

// SetControls writes what Controls returns.
func (a *Answer) SetControls(changes uint64, v dsp.Values) {
	var rcv audio.Controls
	rcv.Init(a.controls, 0)
	rcv.MutateChanges(changes)
	rcv.MutateGain(v[dsp.Gain])
	rcv.MutatePan(v[dsp.Pan])
	rcv.MutateFilterCutoff(v[dsp.Cutoff])
	rcv.MutateFilterResonance(v[dsp.Resonance])
}
