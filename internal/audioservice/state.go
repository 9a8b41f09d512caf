package audioservice

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/dsp"
	"github.com/ipcgen/ipcgen/runtime/group"
)

// A snapshot of an Engine, all of it little-endian:
//
//	version, active     one byte each
//	channels            2 bytes
//	rate, frames        4 bytes each
//	changes             8 bytes
//	parameters          a 4-byte float each
const (
	snapshotVersion = 2
	snapshotSize    = 2 + 2 + 4 + 4 + 8 + 4*dsp.NumParams
)

var _ group.State = (*Engine)(nil)

// Snapshot returns the engine's state. It implements group.State.
func (e *Engine) Snapshot() ([]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	b := append(make([]byte, 0, snapshotSize), snapshotVersion, 0)
	if e.active {
		b[1] = 1
	}
	b = binary.LittleEndian.AppendUint16(b, e.stream.Channels)
	b = binary.LittleEndian.AppendUint32(b, e.stream.SampleRate)
	b = binary.LittleEndian.AppendUint32(b, e.stream.BufferFrames)
	b = binary.LittleEndian.AppendUint64(b, e.changes)
	for _, v := range e.values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b, nil
}

// Restore takes over the state of a snapshot, or changes nothing and returns an
// error. It implements group.State.
func (e *Engine) Restore(b []byte) error {
	if len(b) == 0 || b[0] != snapshotVersion {
		return fmt.Errorf("the snapshot is not of version %d; run one version of audio_service",
			snapshotVersion)
	}
	if len(b) != snapshotSize || b[1] > 1 {
		return fmt.Errorf("damaged snapshot: %d bytes, want %d", len(b), snapshotSize)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.active = b[1] == 1
	e.stream = audio.StartStreamT{
		Channels:     binary.LittleEndian.Uint16(b[2:]),
		SampleRate:   binary.LittleEndian.Uint32(b[4:]),
		BufferFrames: binary.LittleEndian.Uint32(b[8:]),
	}
	e.changes = binary.LittleEndian.Uint64(b[12:])
	for i := range e.values {
		e.values[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[20+4*i:]))
	}
	return nil
}
