package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/ipcgen/ipcgen/internal/dsp"
	"github.com/ipcgen/ipcgen/internal/wave"
)

// options are the flags of a run with sound.
type options struct {
	in, out, bits, automation string
	params                    map[dsp.Param]float32
	crashes                   []time.Duration
	rate, channels, frames    int
	length                    time.Duration
	realtime, crashEvery      time.Duration
	report                    string
	priority                  bool
	used                      []string // the flags that need sound

	timeout, readyTimeout time.Duration // of the demo, too
}

// The lengths of blocks, unless -frames says otherwise.
const renderFrames, liveFrames = 1_024, 128

// soundFlags adds the flags of runs with sound.
func soundFlags(flags *flag.FlagSet) *options {
	o := &options{params: map[dsp.Param]float32{}}
	flags.StringVar(&o.in, "in", "", "")
	flags.StringVar(&o.out, "out", "", "")
	flags.StringVar(&o.bits, "bits", "", "")
	flags.StringVar(&o.automation, "automation", "", "")
	for p := range dsp.Param(dsp.NumParams) {
		flags.Func(p.String(), "", func(s string) error {
			v, err := strconv.ParseFloat(s, 32)
			if err != nil {
				return errors.New("not a number")
			}
			o.params[p] = float32(v)
			return p.Check(float32(v))
		})
	}
	flags.Func("crash-at", "", func(s string) error {
		at, err := time.ParseDuration(s)
		if err != nil || at < 0 {
			return errors.New("not a time; write 2.5s")
		}
		o.crashes = append(o.crashes, at)
		slices.Sort(o.crashes)
		return nil
	})
	flags.IntVar(&o.rate, "rate", 48_000, "")
	flags.IntVar(&o.channels, "channels", 2, "")
	flags.IntVar(&o.frames, "frames", 0, "")
	flags.DurationVar(&o.realtime, "realtime", 0, "")
	flags.DurationVar(&o.crashEvery, "crash-every", 0, "")
	flags.StringVar(&o.report, "report", "audio_report.html", "")
	flags.BoolVar(&o.priority, "priority", false, "")
	flags.DurationVar(&o.length, "length", 10*time.Second, "")
	flags.DurationVar(&o.timeout, "timeout", 0, "")
	flags.DurationVar(&o.readyTimeout, "ready-timeout", 10*time.Second, "")
	return o
}

// check notes which flags were given, and returns an error for those that do not fit each other.
func (o *options) check(flags *flag.FlagSet) error {
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) {
		given[f.Name] = true
		switch f.Name {
		case "replicate", "ready-timeout", "timeout":
		default:
			o.used = append(o.used, "-"+f.Name)
		}
	})
	if given["realtime"] {
		o.length = o.realtime
	}
	if o.frames == 0 && !given["frames"] {
		o.frames = renderFrames
		if given["realtime"] {
			o.frames = liveFrames
		}
	}
	switch {
	case given["timeout"] && o.timeout <= 0:
		return fmt.Errorf("-timeout %v: choose more than 0", o.timeout)
	case given["ready-timeout"] && o.readyTimeout <= 0:
		return fmt.Errorf("-ready-timeout %v: choose more than 0", o.readyTimeout)
	case len(o.used) == 0:
		return nil
	case given["in"] && o.in == "" || given["out"] && o.out == "" ||
		given["automation"] && o.automation == "" || given["report"] && o.report == "":
		return errors.New("the name of a file is empty")
	case o.in == "-":
		return errors.New("-in - is no file; give /dev/stdin, which must be a WAVE file")
	case given["realtime"] && (o.realtime < time.Second || o.realtime > 24*time.Hour):
		return fmt.Errorf("-realtime %v: choose 1s to 24h", o.realtime)
	case given["realtime"] && (given["crash-at"] || given["length"]):
		return errors.New("-crash-at and -length are for rendering; with -realtime, see " +
			"-crash-every, and the sweep is as long as that")
	case !given["realtime"] && (given["crash-every"] || given["report"] || given["priority"]):
		return errors.New("-crash-every, -report and -priority need -realtime")
	case given["crash-every"] && o.crashEvery < 10*time.Millisecond:
		return fmt.Errorf("-crash-every %v: choose 10ms or more", o.crashEvery)
	case given["replicate"]:
		return errors.New("-replicate is for the demo; a run with sound always replicates")
	case o.out == "-" && isTerminal(os.Stdout):
		return errors.New("-out -: standard output is a terminal; send the samples to a player " +
			"or a file")
	case o.out == "" && !given["realtime"]:
		return fmt.Errorf("%s needs -out: the file to render to, or - for raw samples on standard "+
			"output", o.used[0])
	case o.in != "" && (given["rate"] || given["channels"] || given["length"]):
		return errors.New("-rate, -channels and -length describe the sweep; a file (-in) has its " +
			"own")
	case o.frames < 16 || o.frames > 65_536:
		return fmt.Errorf("-frames %d: choose 16 to 65536", o.frames)
	case o.length <= 0 || o.length > 24*time.Hour:
		return fmt.Errorf("-length %v: choose up to 24h", o.length)
	}
	if _, err := o.format(wave.Format{}); err != nil {
		return err
	}
	if err := dsp.CheckFormat(int64(o.rate), o.channels); err != nil {
		return err
	}
	if o.in == "" && frameOf(o.length, uint32(o.rate)) == 0 {
		return fmt.Errorf("-length %v: shorter than a frame of %d Hz", o.length, o.rate)
	}
	return o.checkNames()
}

// checkNames returns an error if what is written would take the place of what is read, or of
// another file that is written. The output may have the name of the input, which is read until the
// output is complete.
func (o *options) checkNames() error {
	type named struct{ flag, path string }
	out, in := named{"-out", o.out}, named{"-in", o.in}
	changes, report := named{"-automation", o.automation}, named{"-report", o.report}
	pairs := [][2]named{{out, changes}}
	if o.realtime > 0 {
		pairs = append(pairs, [][2]named{{report, in}, {report, out}, {report, changes}}...)
	}
	for _, p := range pairs {
		if p[0].path != "" && p[1].path != "" && p[0].path != "-" && p[1].path != "-" &&
			sameFile(p[0].path, p[1].path) {
			return fmt.Errorf("%s %s and %s %s are one file; give %s another name", p[0].flag,
				p[0].path, p[1].flag, p[1].path, p[0].flag)
		}
	}
	return nil
}

// open opens what -in says, and reads what -automation says.
func (o *options) open(ctx context.Context) (src source, changes automation, err error) {
	if o.automation != "" {
		if changes, err = readAutomation(o.automation); err != nil {
			return nil, nil, err
		}
	}
	if src, err = o.source(ctx); err != nil {
		return nil, nil, err
	}
	if err := changes.check(o.automation, src.Format().Rate, o.frames); err != nil {
		return nil, nil, errors.Join(err, src.Close())
	}
	return src, changes, nil
}

// source opens what -in says.
func (o *options) source(ctx context.Context) (source, error) {
	if o.in == "" {
		return newSweep(uint32(o.rate), o.channels, o.length), nil
	}
	return openSong(ctx, o.in)
}

// format returns the format of the output, which is that of the input but for -bits.
func (o *options) format(f wave.Format) (wave.Format, error) {
	switch o.bits {
	case "":
	case "float":
		f.Bits, f.Float = 32, true
	case "16", "24", "32":
		f.Bits, _ = strconv.Atoi(o.bits)
		f.Float = false
	default:
		return f, fmt.Errorf("-bits %q: choose 16, 24, 32 or float", o.bits)
	}
	return f, nil
}

// sink opens what -out says.
func (o *options) sink(ctx context.Context, src source) (sink, error) {
	if o.out == "-" {
		return &pipe{ctx: ctx, w: os.Stdout}, nil
	}
	f, err := o.format(src.Format())
	if err != nil {
		return nil, err
	}
	return createFile(o.out, f, src.Frames())
}
