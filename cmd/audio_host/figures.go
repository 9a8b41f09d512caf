package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// figures are what a session has shown.
type figures struct {
	Blocks, Xruns, Lost   int
	Window                int             // blocks that may be without an answer
	P50, P99, P999, Worst time.Duration   // slack: that so many blocks had at least
	Slack                 []time.Duration // by block
	Latency               []time.Duration // of the blocks that were answered
	Kills                 []killed
	Recovery              []time.Duration // of those kills that have it
	Kernel, Notice        []time.Duration // likewise
	Period                time.Duration
	Alone                 time.Duration   // of the signal path, for a block
	Clock                 []time.Duration // how late this process sent each block
	Asleep                []time.Duration // how late a thread woke up that only sleeps
	OwnFault              int             // xruns of blocks that were answered within the headroom
	Machine               int             // xruns of moments in which that thread was late, too
	MedianLatency         time.Duration
	Load                  load
}

// A killed is what became of a kill. A duration is 0 if the session has ended before.
type killed struct {
	at       time.Duration // since the begin
	recovery time.Duration // until the next block was answered in time
	kernel   time.Duration // until the kernel told this process of the death
	notice   time.Duration // until the group reported it
}

func (r *session) figures() (f figures) {
	f.Blocks, f.Lost, f.Period, f.Alone, f.Load = r.played, r.lost, r.period, r.alone, r.load
	f.Window = r.studio.window
	f.Asleep = r.asleep[:r.played]
	for n, sent := range r.sent[:r.played] {
		captured, answered := time.Duration(n)*r.period, r.answered[n]
		f.Clock = append(f.Clock, sent-captured)
		slack := -headroom * r.period // an answer that never came
		if answered != 0 {
			slack = captured + headroom*r.period - answered
			f.Latency = append(f.Latency, answered-sent)
		}
		if slack < 0 {
			f.Xruns++
			if answered != 0 && answered-sent <= headroom*r.period {
				f.OwnFault++
			}
			if slices.Max(f.Asleep[max(n-1, 0):min(n+headroom+1, r.played)]) > r.period {
				f.Machine++
			}
		}
		f.Slack = append(f.Slack, slack)
	}
	sorted := slices.Sorted(slices.Values(f.Slack))
	f.P50, f.P99 = at(sorted, 0.5), at(sorted, 0.01)
	f.P999, f.Worst = at(sorted, 0.001), at(sorted, 0)
	for _, k := range r.kills {
		f.Kills = append(f.Kills, r.killed(k, f.Slack))
	}
	for _, k := range f.Kills {
		if k.recovery > 0 {
			f.Recovery = append(f.Recovery, k.recovery)
		}
		if k.kernel > 0 {
			f.Kernel = append(f.Kernel, k.kernel)
		}
		if k.notice > 0 {
			f.Notice = append(f.Notice, k.notice)
		}
	}
	f.MedianLatency = median(f.Latency)
	return f
}

func (r *session) killed(k kill, slack []time.Duration) killed {
	at := k.at.Sub(r.begin)
	d := killed{at: at}
	if !k.kernel.IsZero() {
		d.kernel = k.kernel.Sub(k.at)
	}
	if !k.noticed.IsZero() {
		d.notice = k.noticed.Sub(k.at)
	}
	for n, answered := range r.answered[:r.played] {
		if answered > at && slack[n] >= 0 {
			d.recovery = answered - at
			break
		}
	}
	return d
}

// at returns the value below which this part of the sorted ones is.
func at(sorted []time.Duration, part float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(part*float64(len(sorted))), len(sorted)-1)]
}

func quantile(d []time.Duration, part float64) time.Duration {
	return at(slices.Sorted(slices.Values(d)), part)
}

func median(d []time.Duration) time.Duration { return quantile(d, 0.5) }

func worst(d []time.Duration) time.Duration { return quantile(d, 1) }

func micro(d time.Duration) time.Duration { return d.Round(time.Microsecond) }

// shareAlone returns the part of a processor that the signal path needs for sound in real time.
func (f figures) shareAlone() string {
	return fmt.Sprintf("%.2f %%", 100*float64(f.Alone)/float64(f.Period))
}

// print prints the figures.
func (f figures) print(w io.Writer, report string) error {
	var b strings.Builder
	line := func(format string, args ...any) {
		fmt.Fprintf(&b, "audio_host: "+format+"\n", args...)
	}
	line("%d blocks, %d xruns, %s killed", f.Blocks, f.Xruns, primaries(len(f.Kills)))
	if f.Lost > 0 {
		line("%d of the blocks were not sent, since %d others had no answer or were not taken",
			f.Lost, f.Window)
	}
	line("slack p50 %v, p99 %v, p99.9 %v, worst %v, of %v", micro(f.P50), micro(f.P99),
		micro(f.P999), micro(f.Worst), micro(headroom*f.Period))
	if len(f.Kills) > 0 {
		line("SIGKILL to the next good block: median %v, worst %v; to the group's notice of "+
			"death: median %v, worst %v", micro(median(f.Recovery)), micro(worst(f.Recovery)),
			micro(median(f.Notice)), micro(worst(f.Notice)))
	}
	if len(f.Kernel) > 0 {
		line("SIGKILL to the kernel's notice of death: median %v, worst %v",
			micro(median(f.Kernel)), micro(worst(f.Kernel)))
	}
	line("a block takes %v there and back, and the signal path alone %v", micro(f.MedianLatency),
		f.Alone.Round(100*time.Nanosecond))
	line("this process sent blocks up to %v late (p99.9 %v), the cause of %d xruns",
		micro(worst(f.Clock)), micro(quantile(f.Clock, 0.999)), f.OwnFault)
	line("a thread that only sleeps woke up to %v late (p99.9 %v), at the time of %d xruns",
		micro(worst(f.Asleep)), micro(quantile(f.Asleep, 0.999)), f.Machine)
	line("load of one processor: host %s, replicas %s, and the signal path alone %s",
		f.Load.share(f.Load.host), f.Load.share(f.Load.replicas), f.shareAlone())
	if f.Load.stolen > 0 {
		line("the machine below kept %s of a processor for itself", f.Load.share(f.Load.stolen))
	}
	line("the report is in %s", report)
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("the report is incomplete: %w", err)
	}
	return nil
}
