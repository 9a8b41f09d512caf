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
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/dsp"
	"github.com/ipcgen/ipcgen/internal/wave"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
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
					!strings.Contains(out, fmt.Sprint(n, " primaries killed on the way")) {
					t.Errorf("%d crashes were asked for:\n%s", n, out)
				}
				nothingLeft(t, domain)
			}
		})
	}
}

// kills returns how many kills a test makes in one run: few, or AUDIO_TEST_KILLS.
func kills(few int) int {
	if n, err := strconv.Atoi(os.Getenv("AUDIO_TEST_KILLS")); err == nil {
		return n
	}
	return few
}

// TestRenderKills kills many primaries in one run, at random times.
func TestRenderKills(t *testing.T) {
	t.Parallel()
	domain := newDomain(t)
	args := []string{"-out", "-", "-length", "20s", "-channels", "1", "-cutoff", "700"}
	whole, errOut, err := run(t, domain, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, errOut)
	}
	n := kills(15)
	for range n {
		args = append(args, "-crash-at", fmt.Sprint(rand.IntN(20_000), "ms"))
	}
	out, errOut, err := run(t, domain, args...)
	if err != nil || !strings.Contains(errOut, fmt.Sprint(n, " primaries killed on the way")) {
		t.Errorf("%v, want %d kills\n%s", err, n, errOut)
	}
	if out != whole {
		t.Error("the sound is not that of a run in which nothing was killed")
	}
	nothingLeft(t, domain)
}

// TestRenderKilledFresh kills each process that takes the place of a killed one as soon as it
// serves, so while it catches up; or the other one then, which has answered all so far; or both.
func TestRenderKilledFresh(t *testing.T) {
	t.Parallel()
	domain := newDomain(t)
	args := []string{"-out", "-", "-length", "20s", "-channels", "1", "-cutoff", "700"}
	whole, errOut, err := run(t, domain, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, errOut)
	}
	p := startPiped(t, domain, "-cutoff", "700")
	defer watch(t, p.Process)()
	got := p.read(t, 10_000)
	r, err := registry.Open(domain, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	list := func() []registry.Record {
		live, err := r.List("audio_compute")
		if err != nil {
			t.Fatal(err)
		}
		return live
	}
	rest := kills(15)
	chunk := (pipedFrames - 48_000) / rest // of the sound, between two kills
	kill := func(pid int) {
		if syscall.Kill(pid, syscall.SIGKILL) == nil {
			rest--
		}
	}
	seen := map[int]bool{}
	for _, r := range list() {
		seen[r.PID] = true
	}
	for pid := range seen {
		kill(pid)
		break
	}
	for rest > 0 {
		live := list()
		n := slices.IndexFunc(live, func(r registry.Record) bool { return !seen[r.PID] })
		if n < 0 {
			time.Sleep(100 * time.Microsecond)
			continue
		}
		fresh := live[n].PID
		seen[fresh] = true
		which := rand.IntN(3)
		// There is room for answers now, and so there are blocks under way.
		got = append(got, p.read(t, min(chunk, pipedFrames-48_000-len(got)/4))...)
		for _, r := range live {
			if r.PID != fresh && which > 0 {
				kill(r.PID)
			}
		}
		if which != 1 || len(live) == 1 {
			kill(fresh)
		}
	}
	got = append(got, p.read(t, pipedFrames-len(got)/4)...)
	if err := p.Wait(); err != nil {
		t.Errorf("%v\n%s", err, &p.errOut)
	}
	if !bytes.Equal(got, []byte(whole)) {
		t.Error("the sound is not that of a run in which nothing was killed")
	}
	nothingLeft(t, domain)
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
	samples := whole[12+8+18:] // and the chunk before them
	write("more.wav", slices.Concat(whole, samples[len(samples)-8-len(good):]))
	write("two.wav", slices.Concat(whole, whole))
	for link, to := range map[string]string{"dangling": "nothing", "same": "out.wav"} {
		if err := os.Symlink(to, at(link)); err != nil {
			t.Fatal(err)
		}
	}
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
		{"-in more.wav -out out.wav", 1, "it has a second part of samples"},
		{"-in two.wav -out out.wav", 1, "two.wav: unsupported kind of file: a second file"},
		{"-in nan.wav -out out.wav", 1, "frame 12345) is nan"},
		{"-in inf.wav -out out.wav", 1, "frame 12345) is -inf"},
		{"-in good.wav -out out.wav -automation words", 1, "words:2:"},
		{"-in good.wav -out out.wav -automation times", 1, "times:1: \"soon\" is not a time"},
		{"-in good.wav -out out.wav -automation params", 1, "no parameter \"loudness\""},
		{"-in good.wav -out out.wav -automation values", 1, "\"much\" is not a number"},
		{"-in good.wav -out out.wav -automation ranges", 1, "ranges:1: gain 9 is out of range"},
		{"-in good.wav -out out.wav -automation many", 1,
			"many:252: more than 251 changes in the block of 1024 frames that begins at 896ms"},
		{"-in good.wav -out out.wav -automation nothing", 1, "nothing"},
		{"-in good.wav -out out.wav -crash-at 1h", 1, "-crash-at 1h0m0s: the sound ends at 2.5s"},
		{"-in good.wav -out out.wav -crash-at 2.5s", 1, "-crash-at 2.5s: the sound ends at 2.5s"},
		{"-in good.wav -out dangling", 1, "a link to a file that does not exist"},
		{"-in good.wav -out nowhere/out.wav", 1, "nowhere/out.wav"},
		{"-in good.wav -out /dev/full", 1, "not a regular file"},
		{"-in good.wav", 2, "-in needs -out"},
		{"-gain 1", 2, "-gain needs -out"},
		{"-in good.wav -out out.wav -gain 5", 2, "gain 5 is out of range"},
		{"-in good.wav -out out.wav -gain nan", 2, "out of range"},
		{"-in good.wav -out out.wav -cutoff 1", 2, "cutoff 1 is out of range"},
		{"-in good.wav -out out.wav -rate 44100", 2, "describe the sweep"},
		{"-out out.wav -rate 1", 2, "1 hz"},
		{"-out out.wav -rate -1", 2, "rate of -1 hz"},
		// Of 32 bits, this would be 48000.
		{"-out out.wav -rate 4295015296", 2, "rate of 4295015296 hz"},
		{"-out out.wav -length 1ns", 2, "shorter than a frame"},
		{"-out out.wav -timeout -1s", 2, "-timeout"},
		{"-out out.wav -ready-timeout 0s", 2, "-ready-timeout"},
		{"-out=", 2, "the name of a file is empty"},
		{"-in - -out out.wav", 2, "/dev/stdin"},
		{"-in good.wav -out same -automation out.wav", 2, "-out same and -automation out.wav are"},
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

// TestRenderOnto renders to names that exist: a song onto itself, through a link, which stays one,
// to a file that only its owner may read, and to one that is read-only.
func TestRenderOnto(t *testing.T) {
	dir, domain := t.TempDir(), newDomain(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	f := wave.Format{Rate: 8_000, Channels: 1, Bits: 16}
	song := writeSong(t, at("song.wav"), f, rand.New(rand.NewPCG(5, 5)), 30_000)
	v := dsp.InitialValues()
	v[dsp.Gain] = 0.5
	writeWave(t, at("want.wav"), f, reference(t, f, v, song, nil))
	if err := errors.Join(os.Chmod(at("song.wav"), 0o600),
		os.Symlink("song.wav", at("link.wav"))); err != nil {
		t.Fatal(err)
	}
	args := []string{"-in", at("song.wav"), "-out", at("link.wav"), "-gain", "0.5"}
	if _, errOut, err := run(t, domain, args...); err != nil {
		t.Fatalf("%v\n%s", err, errOut)
	}
	if to, err := os.Readlink(at("link.wav")); err != nil || to != "song.wav" {
		t.Errorf("the link is to %q (%v)", to, err)
	}
	info, err := os.Stat(at("song.wav"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v, want a file for its owner alone", info, err)
	}
	if !bytes.Equal(readFile(t, at("song.wav")), readFile(t, at("want.wav"))) {
		t.Error("the song is not what was rendered")
	}
	if err := os.Chmod(at("song.wav"), 0o400); err != nil {
		t.Fatal(err)
	}
	if _, errOut, err := run(t, domain, args...); err == nil ||
		!strings.Contains(errOut, "read-only") {
		t.Errorf("onto a read-only file: %v\n%s", err, errOut)
	}
	nothingLeft(t, domain)
}

// TestRenderLongBlocks renders with the longest blocks of the most channels.
func TestRenderLongBlocks(t *testing.T) {
	domain := newDomain(t)
	out, errOut, err := run(t, domain, "-out", "-", "-rate", "8000", "-channels", "8", "-frames",
		"65536", "-length", "20s", "-crash-at", "9s")
	if want := 4 * 8 * 8_000 * 20; err != nil || len(out) != want {
		t.Errorf("%d bytes, want %d: %v\n%s", len(out), want, err, errOut)
	}
	nothingLeft(t, domain)
}

// TestRenderTold ends a render by each signal that asks for it: nothing is left.
func TestRenderTold(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if signal.Ignored(sig) {
			continue // under nohup, say, where the program ignores it as well
		}
		dir, domain := t.TempDir(), newDomain(t)
		cmd := host(domain, "-out", filepath.Join(dir, "out.wav"), "-length", "24h", "-rate",
			"8000", "-channels", "1")
		var errOut bytes.Buffer
		cmd.Stderr = &errOut
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stop := watch(t, cmd.Process)
		draftGrows(t, dir, ".out.wav.")
		cmd.Process.Signal(sig)
		err := cmd.Wait()
		stop()
		if cmd.ProcessState.ExitCode() != 130 || !strings.Contains(errOut.String(), "interrupted") {
			t.Errorf("%v: ended with %v, want status 130\n%s", sig, err, &errOut)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%v: left: %v (%v)", sig, left, err)
		}
		nothingLeft(t, domain)
	}
}

// draftGrows waits until there is something in a file of dir whose name begins so, or the whole is
// there, before this process has had a look.
func draftGrows(t *testing.T, dir, prefix string) {
	t.Helper()
	whole := filepath.Join(dir, strings.Trim(prefix, "."))
	for t.Context().Err() == nil {
		if _, err := os.Stat(whole); err == nil {
			return
		}
		drafts, _ := filepath.Glob(filepath.Join(dir, prefix+"*"))
		if len(drafts) == 1 {
			if info, err := os.Stat(drafts[0]); err == nil && info.Size() > 0 {
				return
			}
		}
		time.Sleep(time.Millisecond)
	}
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
