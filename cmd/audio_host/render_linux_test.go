package main_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/dsp"
	"github.com/ipcgen/ipcgen/internal/wave"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// writeSong writes a file of noise and returns its samples as a reader gets them.
func writeSong(t *testing.T, path string, f wave.Format, rng *rand.Rand, frames int) []byte {
	t.Helper()
	samples := make([]byte, 0, 4*frames*f.Channels)
	for range frames * f.Channels {
		samples = binary.LittleEndian.AppendUint32(samples,
			math.Float32bits(float32(rng.IntN(1<<15)-1<<14)/(1<<15)))
	}
	writeWave(t, path, f, samples)
	return samples
}

func writeWave(t *testing.T, path string, f wave.Format, samples []byte) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w, err := wave.NewWriter(file, f, 0)
	if err == nil {
		err = errors.Join(w.Write(samples), w.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// reference is what one process computes, in one block.
func reference(t *testing.T, f wave.Format, v dsp.Values, samples []byte,
	changes []dsp.Change) []byte {
	t.Helper()
	c, err := dsp.NewChain(f.Rate, f.Channels, v)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, len(samples))
	if err := c.Process(out, samples, changes); err != nil {
		t.Fatal(err)
	}
	return out
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRenderCrash renders songs with automation while primaries are killed, at random times and
// several at once: the result has the very bytes of a run without a crash, and of one process that
// computes the song in one block. AUDIO_TEST_RENDERS is the number of songs.
func TestRenderCrash(t *testing.T) {
	rounds, err := strconv.Atoi(os.Getenv("AUDIO_TEST_RENDERS"))
	if err != nil {
		rounds = 3
	}
	for seed := range uint64(rounds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 2))
			f := wave.Format{Rate: 44_100, Channels: 1 + rng.IntN(8), Bits: 32, Float: true}
			if rng.IntN(2) == 0 {
				f.Bits, f.Float = []int{16, 24, 32}[rng.IntN(3)], false
			}
			dir := t.TempDir()
			at := func(name string) string { return filepath.Join(dir, name) }
			const frames = 3 * 44_100
			samples := writeSong(t, at("in.wav"), f, rng, frames)

			var changes []dsp.Change
			var lines strings.Builder
			for n := range rng.IntN(40) {
				p := dsp.Param(rng.IntN(dsp.NumParams))
				r := dsp.Ranges[p]
				c := dsp.Change{Frame: n * 3_300, Param: p,
					Value: r.Min + rng.Float32()*(r.Max-r.Min)}
				changes = append(changes, c)
				// Half a frame later is still this frame.
				fmt.Fprintf(&lines, "%.9fs %v %v # change %d\n\n",
					(float64(c.Frame)+0.5)/44_100, p, c.Value, n)
			}
			// Editors of other systems begin a file with a byte order mark, and end lines so.
			text := "\ufeff" + strings.ReplaceAll(lines.String(), "\n", "\r\n")
			if err := os.WriteFile(at("automation"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			v := dsp.InitialValues()
			v[dsp.Gain], v[dsp.Cutoff], v[dsp.Resonance] = 0.3, 900, 3
			writeWave(t, at("want.wav"), f, reference(t, f, v, samples, changes))

			args := []string{"-in", at("in.wav"), "-automation", at("automation"), "-gain", "0.3",
				"-cutoff", "900", "-resonance", "3", "-frames", fmt.Sprint(64 + rng.IntN(700))}
			crashes := []string{"-out", at("crashed.wav"), "-crash-at", "1s", "-crash-at", "1s"}
			for range 1 + rng.IntN(5) {
				crashes = append(crashes, "-crash-at", fmt.Sprint(rng.IntN(3_000), "ms"))
			}
			for name, extra := range map[string][]string{
				"whole.wav": {"-out", at("whole.wav")}, "crashed.wav": crashes,
			} {
				domain := at("domain of " + name)
				out, errOut, err := run(t, domain, append(extra, args...)...)
				if err != nil {
					t.Fatalf("%s: %v\n%s%s", name, err, out, errOut)
				}
				if !bytes.Equal(readFile(t, at(name)), readFile(t, at("want.wav"))) {
					t.Errorf("%s is not what one process computes (%v)", name, f)
				}
				if n := strings.Count(strings.Join(extra, " "), "-crash-at"); n > 0 &&
					!strings.Contains(out, fmt.Sprint(n, " primaries killed")) {
					t.Errorf("%d crashes were asked for:\n%s", n, out)
				}
				nothingLeft(t, domain)
			}
		})
	}
}

// TestRenderBadInput gives what cannot be rendered: each is one clear error, what was under the
// name of the output stays, and nothing is left beside it.
func TestRenderBadInput(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	mono := wave.Format{Rate: 8_000, Channels: 1, Bits: 32, Float: true}
	good := writeSong(t, at("good.wav"), mono, rand.New(rand.NewPCG(1, 1)), 20_000)
	whole := readFile(t, at("good.wav"))
	write := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(at(name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("short.wav", whole[:len(whole)-5_001])
	write("empty.wav", nil)
	write("text.wav", []byte("a letter"))
	writeWave(t, at("none.wav"), mono, nil)
	writeWave(t, at("wide.wav"), wave.Format{Rate: 8_000, Channels: 9, Bits: 16}, make([]byte, 36))
	writeWave(t, at("slow.wav"), wave.Format{Rate: 100, Channels: 1, Bits: 16}, make([]byte, 36))
	for name, x := range map[string]float64{"nan.wav": math.NaN(), "inf.wav": math.Inf(-1)} {
		bad := slices.Clone(good)
		binary.LittleEndian.PutUint32(bad[4*12_345:], math.Float32bits(float32(x)))
		writeWave(t, at(name), mono, bad)
	}
	write("words", []byte("# fine\n1s gain 1 now\n"))
	write("times", []byte("soon gain 1\n"))
	write("params", []byte("1s loudness 1\n"))
	write("values", []byte("1s gain much\n"))
	write("ranges", []byte("1s gain 9\n"))
	write("long", bytes.Repeat([]byte("x"), 70_000))
	// The chunk of the format is the first one, of 18 bytes with this format.
	format := whole[12 : 12+8+18]
	write("twice.wav", slices.Concat(whole[:12], format, format, whole[12+8+18:]))
	three := wave.Format{Rate: 8_000, Channels: 3, Bits: 16}
	writeWave(t, at("valid.wav"), three, make([]byte, 48))
	valid := readFile(t, at("valid.wav"))
	valid[12+8+18] = 17 // of the 16 bits of a sample
	write("valid.wav", valid)
	write("many", bytes.Repeat([]byte("1s gain 1\n"), 256))
	const before = "what was there before"
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"-in missing.wav -out out.wav", 1, "missing.wav"},
		{"-in . -out out.wav", 1, "directory"},
		{"-in short.wav -out out.wav", 1, "short.wav: the file is cut short"},
		{"-in empty.wav -out out.wav", 1, "empty.wav: not a valid wave file: it is empty"},
		{"-in text.wav -out out.wav", 1, "text.wav: not a valid wave file"},
		{"-in none.wav -out out.wav", 1, "no samples"},
		{"-in wide.wav -out out.wav", 1, "9 channels"},
		{"-in slow.wav -out out.wav", 1, "100 hz"},
		{"-in twice.wav -out out.wav", 1, "twice.wav: not a valid wave file: it has two formats"},
		{"-in valid.wav -out out.wav", 1, "17 valid bits in samples of 16"},
		{"-in good.wav -out out.wav -automation long", 1, "long:1: a line of more than"},
		{"-in nan.wav -out out.wav", 1, "frame 12345) is nan"},
		{"-in inf.wav -out out.wav", 1, "frame 12345) is -inf"},
		{"-in good.wav -out out.wav -automation words", 1, "words:2:"},
		{"-in good.wav -out out.wav -automation times", 1, "times:1: \"soon\" is not a time"},
		{"-in good.wav -out out.wav -automation params", 1, "no parameter \"loudness\""},
		{"-in good.wav -out out.wav -automation values", 1, "\"much\" is not a number"},
		{"-in good.wav -out out.wav -automation ranges", 1, "ranges:1: gain 9 is out of range"},
		{"-in good.wav -out out.wav -automation many", 1, "256 changes"},
		{"-in good.wav -out out.wav -automation nothing", 1, "nothing"},
		{"-in good.wav -out out.wav -crash-at 1h", 1, "-crash-at 1h0m0s is behind the end"},
		{"-in good.wav -out nowhere/out.wav", 1, "nowhere/out.wav"},
		{"-in good.wav -out /dev/full", 1, "not a regular file"},
		{"-in good.wav", 2, "-in needs -out"},
		{"-gain 1", 2, "-gain needs -out"},
		{"-in good.wav -out out.wav -gain 5", 2, "gain 5 is out of range"},
		{"-in good.wav -out out.wav -gain nan", 2, "out of range"},
		{"-in good.wav -out out.wav -cutoff 1", 2, "cutoff 1 is out of range"},
		{"-in good.wav -out out.wav -rate 44100", 2, "describe the sweep"},
		{"-out out.wav -rate 1", 2, "1 hz"},
		{"-out out.wav -rate -1", 2, "0 hz"},
		{"-out out.wav -channels 0", 2, "0 channels"},
		{"-out out.wav -frames 1", 2, "-frames 1"},
		{"-out out.wav -length 0s", 2, "-length"},
		{"-out out.wav -bits 8", 2, "-bits"},
		{"-out out.wav -crash-at never", 2, "not a time"},
		{"-out out.wav -replicate", 2, "-replicate"},
		{"-out out.wav -channels 8 -length 24h", 1, "4 gib"},
	} {
		write("out.wav", []byte(before))
		cmd := host(at("domain"), strings.Fields(c.args)...)
		cmd.Dir = dir
		var out, errOut bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errOut
		err := start(t, cmd)
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != c.code {
			t.Errorf("%s: ended with %v, want status %d\n%s%s", c.args, err, c.code, &out, &errOut)
		}
		if got := strings.ToLower(errOut.String()); !strings.Contains(got, c.want) ||
			c.code == 1 && strings.Count(got, "\n") != 1 {
			t.Errorf("%s: standard error %q, want one line with %q", c.args, &errOut, c.want)
		}
		if got := readFile(t, at("out.wav")); string(got) != before {
			t.Errorf("%s: the file was replaced by %d bytes", c.args, len(got))
		}
		if left, err := filepath.Glob(at(".*.tmp")); err != nil || len(left) > 0 {
			t.Errorf("%s: left behind %q (%v)", c.args, left, err)
		}
	}
	nothingLeft(t, at("domain"))
}

// TestRenderDiskFull renders to a disk that fills.
func TestRenderDiskFull(t *testing.T) {
	mount := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("unshare", "-rm", "mount", "-t", "tmpfs", "none",
		mount).CombinedOutput(); err != nil {
		t.Skipf("no mounts here: %v\n%s", err, out)
	}
	domain := newDomain(t)
	cmd := host(domain)
	cmd.Args = []string{"sh", "-c", `mount -t tmpfs -o size=1m none "$0" && "$1" -out "$0/x.wav"
		code=$?; ls -A "$0"; exit $code`, mount, hostPath}
	sh, err := exec.LookPath("unshare")
	if err != nil {
		t.Skip(err)
	}
	cmd.Path, cmd.Args = sh, append([]string{"unshare", "-rm"}, cmd.Args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = start(t, cmd)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 ||
		!strings.Contains(errOut.String(), "x.wav: ") ||
		!strings.Contains(errOut.String(), "no space left on device") {
		t.Errorf("ended with %v\n%s", err, &errOut)
	}
	if out.Len() > 0 {
		t.Errorf("left on the disk: %s", &out)
	}
}

// A piped run renders a sweep of some seconds to a pipe, which the test reads as it likes.
type piped struct {
	*exec.Cmd
	out    io.ReadCloser
	errOut bytes.Buffer
}

const pipedFrames = 20 * 48_000

func startPiped(t *testing.T, domain string, args ...string) *piped {
	t.Helper()
	args = append(args, "-out", "-", "-channels", "1", "-frames", "256")
	if !slices.Contains(args, "-realtime") {
		args = append(args, "-length", "20s")
	}
	p := &piped{Cmd: host(domain, args...)}
	p.Cmd.Stderr = &p.errOut
	var err error
	if p.out, err = p.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Process.Kill() })
	return p
}

// read returns the next frames, or what there is before the end.
func (p *piped) read(t *testing.T, frames int) []byte {
	t.Helper()
	b := make([]byte, 4*frames)
	if _, err := io.ReadFull(p.out, b); err != nil {
		p.Process.Signal(syscall.SIGQUIT)
		p.Wait()
		t.Fatalf("%v\n%s", err, &p.errOut)
	}
	return b
}

// primaryOf returns the primary, once it serves.
func primaryOf(t *testing.T, domain string) group.Connection {
	t.Helper()
	c, err := group.Dial(t.Context(), "audio_compute", group.DialConfig{Domain: domain})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	primary, err := c.WaitConnected(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return primary
}

// TestRenderStopped stops the primary while sound flows, and lets it continue later: the other
// replica goes on, the stopped one catches up, and no sample differs.
func TestRenderStopped(t *testing.T) {
	whole, _, err := run(t, newDomain(t), "-out", "-", "-length", "20s", "-channels", "1")
	if err != nil {
		t.Fatal(err)
	}
	domain := newDomain(t)
	p := startPiped(t, domain)
	got := p.read(t, 10_000)
	primary := primaryOf(t, domain)
	syscall.Kill(primary.PID, syscall.SIGSTOP)
	got = append(got, p.read(t, 10*48_000)...)
	syscall.Kill(primary.PID, syscall.SIGCONT)
	got = append(got, p.read(t, pipedFrames-len(got)/4)...)
	if err := p.Wait(); err != nil {
		t.Errorf("%v\n%s", err, &p.errOut)
	}
	if !bytes.Equal(got, []byte(whole)) {
		t.Error("the sound is not that of a run in which nothing was stopped")
	}
}

// TestControlsReachTheSound calls SetParam from another process while sound flows, and listens to
// the levels: from then on both are silent.
func TestControlsReachTheSound(t *testing.T) {
	domain := newDomain(t)
	p := startPiped(t, domain)
	p.read(t, 10_000)
	c, err := group.Dial(t.Context(), "audio_compute", group.DialConfig{Domain: domain})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	levels, err := audio.SubscribeLevels(t.Context(), c, topic.SubscribeOptions{History: 64})
	if err != nil {
		t.Fatal(err)
	}
	defer levels.Close()
	loud := func() (peak, rms float32) {
		for l, err := range levels.All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if l.Channels != 1 || l.SampleRate != 48_000 {
				t.Fatalf("levels of %d channels and %d Hz", l.Channels, l.SampleRate)
			}
			return l.Peak[0], l.Rms[0]
		}
		return 0, 0
	}
	peak, rms := loud()
	if peak < 0.2 || peak > 0.26 || math.Abs(float64(rms/peak)-math.Sqrt2/2) > 0.1 {
		t.Errorf("a sine of 0.25 has the peak %v and the RMS %v", peak, rms)
	}
	ack, err := audio.NewAudioControlClient(c).SetParam(t.Context(),
		&audio.SetParamT{ParamId: audio.ParamTypeGain, Value: 0})
	if err != nil || ack.Status != audio.StatusOk {
		t.Fatalf("SetParam: %+v, %v", ack, err)
	}
	rest := p.read(t, pipedFrames-10_000)
	for end := rest[len(rest)-4*48_000:]; len(end) > 0; end = end[4:] {
		if x := math.Float32frombits(binary.LittleEndian.Uint32(end)); x != 0 {
			t.Fatalf("the gain was set to 0, and there is sound at the end: %v", x)
		}
	}
	for peak > 0 { // the last one that was published is silent
		peak, _ = loud()
	}
	if err := p.Wait(); err != nil {
		t.Errorf("%v\n%s", err, &p.errOut)
	}
}
