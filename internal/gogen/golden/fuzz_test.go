package golden_test

import (
	"math/rand/v2"
	"reflect"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/gogen/golden/kitchen"
	"github.com/ipcgen/ipcgen/runtime/fb"
)

// checkKitchen asserts what the verifier promises: a buffer that passes can be
// read through every accessor, unpacked, and packed again, without a panic; and
// what was packed passes again. It reports whether the buffer passed.
func checkKitchen(t *testing.T, buf []byte) bool {
	if kitchen.VerifyKitchen(buf, fb.Limits{Tables: 2000, Bytes: 1 << 20}) != nil {
		return false
	}
	x := kitchen.GetRootAsKitchen(buf, 0)
	read(reflect.ValueOf(x))
	b := flatbuffers.NewBuilder(len(buf))
	kitchen.FinishKitchenBuffer(b, x.UnPack().Pack(b))
	if err := kitchen.VerifyKitchen(b.FinishedBytes(),
		fb.Limits{Tables: 4000, Bytes: 4 << 20}); err != nil {
		t.Errorf("packed again: %v", err)
	}
	return true
}

func checkAudio(t *testing.T, buf []byte) bool {
	if audio.VerifyControlMsg(buf) != nil {
		return false
	}
	x := audio.GetRootAsControlMsg(buf, 0)
	read(reflect.ValueOf(x))
	b := flatbuffers.NewBuilder(len(buf))
	audio.FinishControlMsgBuffer(b, x.UnPack().Pack(b))
	if err := audio.VerifyControlMsg(b.FinishedBytes()); err != nil {
		t.Errorf("packed again: %v", err)
	}
	return true
}

func FuzzKitchen(f *testing.F) {
	f.Add(kitchenBuffer(fullKitchen()))
	f.Add(kitchenBuffer(&kitchen.KitchenT{}))
	f.Fuzz(func(t *testing.T, buf []byte) { checkKitchen(t, buf) })
}

func FuzzAudio(f *testing.F) {
	f.Add(controlMsg(0.5))
	f.Fuzz(func(t *testing.T, buf []byte) { checkAudio(t, buf) })
}

// TestMutatedBuffers does in every run what the fuzzers do for as long as they
// are let: it damages good buffers at a few places.
func TestMutatedBuffers(t *testing.T) {
	rounds := 20_000
	if testing.Short() {
		rounds = 2_000
	}
	for _, c := range []struct {
		name  string
		good  []byte
		check func(*testing.T, []byte) bool
	}{
		{"kitchen", kitchenBuffer(fullKitchen()), checkKitchen},
		{"audio", controlMsg(0.5), checkAudio},
	} {
		t.Run(c.name, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(1, 2))
			passed := 0
			for range rounds {
				buf := append([]byte(nil), c.good...)
				for range 1 + rnd.IntN(3) {
					at := rnd.IntN(len(buf))
					switch rnd.IntN(4) {
					case 0:
						buf[at] ^= 1 << rnd.IntN(8)
					case 1:
						buf[at] = byte(rnd.Uint32())
					case 2:
						buf = buf[:at+1]
					default:
						if at+4 <= len(buf) {
							flatbuffers.WriteUint32(buf[at:], rnd.Uint32()>>rnd.IntN(32))
						}
					}
				}
				if c.check(t, buf) {
					passed++
				}
				if t.Failed() {
					t.Fatalf("buffer % x", buf)
				}
			}
			if passed < rounds/100 || passed == rounds {
				t.Errorf("%d of %d damaged buffers passed: the test tests nothing", passed, rounds)
			}
		})
	}
}
