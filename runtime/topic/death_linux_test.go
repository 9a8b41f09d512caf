package topic_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// TestEveryReaderLearnsOfTheDeath kills a publisher with many subscriptions, of which some read,
// some sleep and some are far behind. Each gets all that was published and kept before, and then
// learns of the death.
func TestEveryReaderLearnsOfTheDeath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	const last, count = 25, 24
	c := startChild(t, "publisher", path, os.Stderr, fmt.Sprintf("%s=%d", killEnv, last),
		fmt.Sprintf("%s=%d", subscribersEnv, count))
	before := footprintNow(t)
	var subs []*topic.Subscription
	for i := range count {
		subs = append(subs, subscribe(t, ipc.WithDomain(path), breaking(topic.Policy(i%3))))
	}
	var readers sync.WaitGroup
	for i, s := range subs {
		readers.Go(func() {
			if i >= count/2 && i%3 != int(topic.Lossless) {
				<-c.done // reads only what a dead publisher has left
			}
			next := uint64(0)
			for {
				b, a, err := s.Next(within(t), nil)
				if died(err) {
					break
				}
				if err == nil {
					err = checkMessage(b, a.Number)
				}
				if err != nil || a.Number != next+a.Lost {
					t.Errorf("subscription %d: %+v, not %d: %v", i, a, next, err)
					return
				}
				if a.Lost > 0 && i%3 == int(topic.Lossless) {
					t.Errorf("subscription %d is lossless: %+v", i, a)
				}
				next = a.Number + 1
			}
			if next != last {
				t.Errorf("subscription %d: the last message before the death is %d, not %d", i,
					next-1, last-1)
			}
		})
	}
	readers.Wait()
	<-c.done
	for _, s := range subs {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if now := footprintNow(t); now.mappings > before.mappings {
		t.Errorf("%d mappings are left of %d", now.mappings-before.mappings, now.mappings)
	}
}

// BenchmarkNoticeOfDeath prints how long it takes from the kill of a publisher until each of many
// readers in this process has learned of it.
func BenchmarkNoticeOfDeath(b *testing.B) {
	for _, readers := range []int{1, 16, 256} {
		b.Run(fmt.Sprint(readers), func(b *testing.B) {
			var first, last []time.Duration
			for b.Loop() {
				path := filepath.Join(b.TempDir(), "d")
				c := startChild(b, "idle publisher", path, os.Stderr)
				noticed := make(chan time.Time, readers)
				for range readers {
					s := subscribe(b, ipc.WithDomain(path), breaking(topic.Lossy))
					go func() {
						if _, _, err := s.Next(within(b), nil); !died(err) {
							b.Error(err)
						}
						noticed <- time.Now()
					}()
				}
				time.Sleep(10 * time.Millisecond) // until they sleep
				killed := time.Now()
				c.kill()
				var all []time.Duration
				for range readers {
					all = append(all, (<-noticed).Sub(killed))
				}
				first, last = append(first, slices.Min(all)), append(last, slices.Max(all))
			}
			slices.Sort(first)
			slices.Sort(last)
			b.ReportMetric(float64(first[len(first)/2])/1e6, "first-ms")
			b.ReportMetric(float64(last[len(last)/2])/1e6, "last-ms")
			b.ReportMetric(float64(last[len(last)-1])/1e6, "worst-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// idlePublisherRole serves a topic without messages.
func idlePublisherRole(where ipc.RendezvousOption) error {
	p := topic.NewPublisher(meter, topic.Options{})
	l, err := ipc.Listen(channelName, where)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return ipc.NewServer(p).Serve(context.Background(), l)
}
