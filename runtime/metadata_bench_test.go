package ipc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// metadataCode is all that a call does on either side because it may carry metadata, by file, and
// what stands in its place where there is no metadata.
var metadataCode = map[string][][2]string{
	"metadata.go": {{`	o, _ := ctx.Value(outgoingKey{}).(*outgoing)
	return o
`, `	return nil
`}},
	"server_context.go": {{`	if in := c.beside.Load(); in != nil {
		return in.reply.get()
	}
	return Metadata{}
`, `	return Metadata{}
`}},
	"server_call.go": {{`	if f.metadata != (Metadata{}) {
		j.ctx.metadata().metadata = f.metadata
	}
`, ""}},
	"frame.go": {
		{`	if f.metadata.pairs != "" {
		n +=`, `	if false {
		n +=`},
		{`	if f.metadata.pairs != "" {
		return`, `	if false {
		return`},
		{`	if f.metadata.pairs != "" {
		put`, `	if false {
		put`},
		{`, f.metadata, f.charged = tag&record.KindMask, Metadata{}, 0`,
			`, f.charged = tag&record.KindMask, 0`},
		{`	if tag&record.Metadata != 0 {`, `	if false {`},
	},
}

// plainEnv makes BenchmarkWithoutMetadata make calls, and nothing else.
const plainEnv = "IPC_BENCH_PLAIN"

// BenchmarkWithoutMetadata compares calls without metadata with those of a build of this package
// that knows no metadata, on both sides, in turns. Two copies of the first build run, because what
// differs between them is the machine's: a difference of the other build means something where it
// is larger than theirs. It reports the median of each, and by how much the other build is shorter
// than the copies. It takes some hundred rounds, of a third of a second each:
//
//	go test -run xxx -bench WithoutMetadata -benchtime 600x ./runtime
func BenchmarkWithoutMetadata(b *testing.B) {
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	if os.Getenv(plainEnv) != "" {
		d := newDomain(b)
		serve(b, d)
		c := dial(b, d)
		body := make([]byte, 64)
		for b.Loop() {
			if _, err := echo(ctx, c, body); err != nil {
				b.Fatal(err)
			}
		}
		return
	}
	dir := b.TempDir()
	replace := make(map[string]string)
	for name, edits := range metadataCode {
		path, err := filepath.Abs(name)
		if err != nil {
			b.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		for _, e := range edits {
			if bytes.Count(text, []byte(e[0])) != 1 {
				b.Fatalf("%s does not have the text %q once", name, e[0])
			}
			text = bytes.Replace(text, []byte(e[0]), []byte(e[1]), 1)
		}
		replace[path] = filepath.Join(dir, name)
		if err := os.WriteFile(replace[path], text, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		b.Fatal(err)
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, list, 0o600); err != nil {
		b.Fatal(err)
	}
	without := filepath.Join(dir, "without.test")
	if out, err := exec.Command("go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", without,
		".").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	with, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	programs := [3]string{with, with, without}
	var times [3][]float64
	for b.Loop() {
		for _, which := range rand.Perm(len(programs)) {
			times[which] = append(times[which], timeOfACall(b, programs[which]))
		}
	}
	median := func(all []float64) float64 {
		slices.Sort(all)
		return all[len(all)/2]
	}
	m, again, n := median(times[0]), median(times[1]), median(times[2])
	b.ReportMetric(m, "ns/call")
	b.ReportMetric(again, "ns/call-again")
	b.ReportMetric(n, "ns/call-of-the-other-build")
	b.ReportMetric(100*((m+again)/2-n)/n, "%-more")
	b.ReportMetric(0, "ns/op")
}

var nsPerOp = regexp.MustCompile(`([0-9.]+) ns/op`)

// timeOfACall runs calls in a build of this package's tests.
func timeOfACall(b *testing.B, program string) float64 {
	cmd := exec.Command(program, "-test.run=^$", "-test.bench=^BenchmarkWithoutMetadata$",
		"-test.benchtime=30000x")
	cmd.Env = append(os.Environ(), plainEnv+"=1")
	out, err := cmd.CombinedOutput()
	m := nsPerOp.FindStringSubmatch(string(out))
	if err != nil || m == nil {
		b.Fatal(fmt.Errorf("%w\n%s", err, strings.TrimSpace(string(out))))
	}
	ns, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		b.Fatal(err)
	}
	return ns
}
