package audioservice

import (
	"context"
	"encoding/binary"
	"math"
	"sync"
	"sync/atomic"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/dsp"
	"github.com/ipcgen/ipcgen/runtime/registry"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// levelsPerSecond is how many messages there are for a second of sound.
const levelsPerSecond = 20

// A meter measures what the chain puts out, and publishes it while this process is the primary, or
// has no group.
type meter struct {
	publisher *audio.LevelsPublisher
	standby   atomic.Bool

	mu     sync.Mutex // one client streams as a rule
	peak   [dsp.MaxChannels]float32
	square [dsp.MaxChannels]float64
	frames uint32
	out    audio.LevelsT
}

func newMeter() *meter {
	// No subscriber may hold up the sound.
	return &meter{publisher: audio.NewLevelsPublisher(topic.Options{Depth: 64,
		Slow: topic.SlowRefuse})}
}

// onRole is for [group.JoinConfig.OnRole].
func (m *meter) onRole(role registry.Role, _ uint64) {
	m.standby.Store(role == registry.RoleStandby)
}

// measure adds a block that c has just put out.
func (m *meter) measure(c *dsp.Chain, samples []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := c.Channels()
	for len(samples) > 0 {
		for ch := range n {
			x := math.Float32frombits(binary.LittleEndian.Uint32(samples))
			m.peak[ch] = max(m.peak[ch], float32(math.Abs(float64(x))))
			m.square[ch] += float64(x) * float64(x)
			samples = samples[4:]
		}
		m.frames++
	}
	if m.frames < c.Rate()/levelsPerSecond {
		return
	}
	m.out = audio.LevelsT{Position: c.Position(), SampleRate: c.Rate(), Channels: uint32(n)}
	for ch := range n {
		m.out.Peak[ch] = m.peak[ch]
		m.out.Rms[ch] = float32(math.Sqrt(m.square[ch] / float64(m.frames)))
	}
	m.peak, m.square, m.frames = [dsp.MaxChannels]float32{}, [dsp.MaxChannels]float64{}, 0
	if !m.standby.Load() {
		// An error means that the server ends, or that the reign has just ended.
		_ = m.publisher.Publish(context.Background(), &m.out)
	}
}
