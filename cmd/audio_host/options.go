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
	case len(o.used) == 0:
		return nil
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
	return dsp.CheckFormat(uint32(max(o.rate, 0)), o.channels)
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
