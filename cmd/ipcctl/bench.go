package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/dynamic"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/load"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/reach"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
)

const benchHelp = `usage: ipcctl bench [flags] name [[namespace.]Service.]Method JSON

Makes calls of one method with one request, and reports rate, percentiles,
errors and a histogram. The request is converted once; replies are verified. On
a terminal, progress is shown. Ctrl-C ends the run with its report, and so does
the end of the server, unless it is the primary of a group.

  ipcctl bench greeter Greet '{"name": "world"}'
  ipcctl bench -schema audio.fbs -c 8 -rate 10000 -svg t.svg audio GetParam '{}'

Flags:
  -schema file   the schema, .fbs or .bfbs (default: the server tells it)
  -I dir         look for included files in dir, too; may be repeated
  -domain name   the domain, a name or a path (default: as programs choose it)
  -n calls       make so many calls (default: as many as fit into -duration)
  -duration d    begin calls for so long (default 5s, or no limit with -n)
  -c callers     calls at the same time (default 1)
  -conns n       connections that the callers share (default 1)
  -rate r        begin r calls a second, and count the time of a call from when
                 it was due (default: each caller as fast as it is answered)
  -timeout d     the deadline of each call (default: the schema's, or 10s)
  -json          print JSON
  -svg file      also write a picture of the percentiles
  -h             print this; the exit status is 1 if no call succeeded
`

func (t *terminal) bench() *cli.Command {
	return &cli.Command{
		Name:  "bench",
		Usage: "make calls, and measure them",
		Flags: append(schemaFlags(), domainFlag(), &cli.Int64Flag{Name: "n"},
			&cli.DurationFlag{Name: "duration"}, &cli.IntFlag{Name: "c", Value: 1},
			&cli.IntFlag{Name: "conns", Value: 1}, &cli.FloatFlag{Name: "rate"},
			&cli.DurationFlag{Name: "timeout", Value: patience},
			&cli.BoolFlag{Name: "json"}, &cli.StringFlag{Name: "svg"}),
		CustomHelpTemplate: benchHelp,
		Action:             t.doBench,
	}
}

// mostCallers limits goroutines and connections to what a process can have.
const mostCallers = 10_000

func (t *terminal) doBench(ctx context.Context, c *cli.Command) error {
	p := load.Plan{Calls: c.Int64("n"), Duration: c.Duration("duration"), Callers: int(c.Int("c")),
		Rate: c.Float("rate"), Timeout: c.Duration("timeout"),
		Code: func(err error) string { return ipc.CodeOf(err).String() }}
	if p.Calls == 0 && p.Duration == 0 {
		p.Duration = 5 * time.Second
	}
	conns := int(c.Int("conns"))
	switch {
	case c.NArg() != 3:
		return usagef("bench takes a name, a method and a request, not %s",
			count(c.NArg(), "argument"))
	case p.Calls < 0 || p.Duration < 0 || p.Rate < 0 || p.Timeout <= 0:
		return usagef("-n, -duration, -rate and -timeout are positive")
	case p.Callers < 1 || p.Callers > mostCallers:
		return usagef("-c %d: 1 to %d callers", p.Callers, mostCallers)
	case conns < 1 || conns > p.Callers:
		return usagef("-conns %d: 1 to the number of callers, %d", conns, p.Callers)
	}
	var m *dynamic.Method
	var request *dynamic.Request
	first, err := t.open(ctx, c, func(s *dynamic.Schema) (err error) {
		if m, err = s.Method(c.Args().Get(1)); err != nil {
			return err
		}
		request, err = m.Prepare([]byte(c.Args().Get(2)))
		return checked(err)
	})
	if err != nil {
		return err
	}
	defer first.Close()
	callers := make([]reach.Conn, conns)
	callers[0] = first
	for i := 1; i < conns; i++ {
		callers[i], err = reach.Dial(ctx, c.String("domain"), c.Args().Get(0), p.Timeout)
		if err != nil {
			return failedCall(err)
		}
		defer callers[i].Close()
	}
	p.Timeout = timeoutOf(c, m)
	if _, follows := first.(*group.Client); !follows {
		p.Ends = func(err error) bool { return ipc.CodeOf(err) == ipc.CodeUnavailable }
	}
	var meter load.Meter
	stop := t.progress(func() string {
		all, failed := meter.Calls()
		return fmt.Sprintf("%d calls, %d failed", all, failed)
	})
	result := load.Run(ctx, p, &meter, func(ctx context.Context, i int) error {
		return request.Call(ctx, callers[i%len(callers)])
	})
	stop()
	if err := t.report(ctx, c, p, m.Name, request.Len(), result); err != nil {
		return err
	}
	if result.Last == nil && result.Times.TotalCount() == 0 {
		return failedCall(result.First)
	}
	return failedCall(result.Last)
}

// report prints a result, and then writes the picture: if that cannot be done, the measurement is
// not lost.
func (t *terminal) report(ctx context.Context, c *cli.Command, p load.Plan, method string, size int,
	r *load.Result) error {
	var b bytes.Buffer
	if c.Bool("json") {
		if err := json.NewEncoder(&b).Encode(summaryOf(p, method, size, r)); err != nil {
			return err
		}
	} else {
		printResult(&b, method, size, r)
	}
	if _, err := t.out.Write(b.Bytes()); err != nil {
		return err
	}
	file := c.String("svg")
	if file == "" {
		return nil
	}
	var picture bytes.Buffer
	if err := r.WriteSVG(&picture, method); err != nil {
		return err
	}
	return t.writeOutput(ctx, file, picture.Bytes())
}

// A summary is a result as JSON. Times are in nanoseconds.
type summary struct {
	Method      string           `json:"method"`
	RequestSize int              `json:"request_bytes"`
	Callers     int              `json:"callers"`
	Calls       int64            `json:"calls"`
	Seconds     float64          `json:"seconds"`
	Rate        float64          `json:"calls_per_second"`
	Mean        float64          `json:"mean_ns"`
	Percentiles map[string]int64 `json:"percentiles_ns"`
	Errors      map[string]int64 `json:"errors"`
	FirstError  string           `json:"first_error,omitempty"`
	Histogram   []load.Bar       `json:"histogram"`
}

func summaryOf(p load.Plan, method string, size int, r *load.Result) *summary {
	s := &summary{Method: method, RequestSize: size, Callers: p.Callers, Calls: r.Calls,
		Seconds: r.Elapsed.Seconds(), Rate: r.Rate(), Mean: r.Times.Mean(),
		Percentiles: make(map[string]int64), Errors: r.Errors, Histogram: r.Bars()}
	for _, q := range load.Percentiles {
		s.Percentiles[fmt.Sprint(q)] = int64(r.At(q))
	}
	if r.First != nil {
		s.FirstError = r.First.Error()
	}
	return s
}

func printResult(w io.Writer, method string, size int, r *load.Result) {
	fmt.Fprintf(w, "%s, requests of %d bytes\n", method, size)
	fmt.Fprintf(w, "%d calls in %.2f s, %.0f a second\n", r.Calls, r.Elapsed.Seconds(), r.Rate())
	codes := make([]string, 0, len(r.Errors))
	for code := range r.Errors {
		codes = append(codes, code)
	}
	slices.Sort(codes)
	for _, code := range codes {
		fmt.Fprintf(w, "%d failed: %s\n", r.Errors[code], code)
	}
	if r.First != nil {
		fmt.Fprintf(w, "the first error: %v\n", r.First)
	}
	if r.Times.TotalCount() == 0 {
		return
	}
	fmt.Fprintln(w)
	for _, q := range load.Percentiles {
		name := fmt.Sprintf("p%v", q)
		if q == 100 {
			name = "longest"
		}
		fmt.Fprintf(w, "%-8s %8s\n", name, load.Short(float64(r.At(q))))
	}
	fmt.Fprintln(w)
	bars := r.Bars()
	var most int64
	for _, b := range bars {
		most = max(most, b.Calls)
	}
	for _, b := range bars {
		line := fmt.Sprintf("below %8s %9d %s", load.Short(float64(b.Below)), b.Calls,
			strings.Repeat("#", int(50*b.Calls/most)))
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
}
