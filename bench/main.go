// Command bench measures ipcgen against other ways to talk between two
// processes of one machine, on this machine, in one run. Run it with -h.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"

	"github.com/ipcgen/ipcgen/bench/internal/contest"
	"github.com/ipcgen/ipcgen/bench/internal/failover"
	"github.com/ipcgen/ipcgen/bench/internal/measure"
	"github.com/ipcgen/ipcgen/bench/internal/peer"
	"github.com/ipcgen/ipcgen/bench/internal/replica"
	"github.com/ipcgen/ipcgen/bench/internal/scratch"
)

const usage = `usage: go run . [flags]

Measures round trips, one-way messages, several clients and idle connections of
ipcgen and of other transports, in turns, each between two processes; then the
registry, and groups that keep a state and whose primaries are killed. It prints
the tables, and writes them with the latency curves and a summary into a folder.
What fails is tried once more, and else reported at the end, after the rest.
README.md says how to read the tables.

  -quick        a few seconds instead of minutes; the numbers mean little
  -run REGEXP   measure only what matches: SECTION/ITEM, for example
                -run 'latency/(bare|call)$' or -run failover
  -list         print what -run can match, and exit
  -size BYTES   round trips and one-way messages of this size alone
  -rounds N     and -turn D: how often each contestant has a turn, and for how long,
                instead of 9 times 300ms
  -pin          keep clients on the first processor and servers on the second:
                steadier on a busy machine, but sleepers are then always woken
                across processors
  -against TREE compare with TREE: a folder with another state of this project, or
                a program built from its bench. The two measure in turns, by
                pairs: 20, or as many as -rounds says
  -o FOLDER     write here (default: results)
  -readme FILE  replace the measurements in this README by those of this run
`

func main() {
	becomeChild()
	if err := run(os.Args[1:], brief(), os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
	}
}

// becomeChild turns the process into what its environment says, and then does
// not return: a replica of a group, a server, or the client of one turn. A
// process inherits what its parent was, so that what is started last comes first.
func becomeChild() {
	replica.Main()
	peer.Main(server)
	measure.Main()
}

// server finds what a child process does.
func server(role string) peer.Server {
	switch role {
	case failover.MortalRole:
		return failover.Mortal
	case failover.SupervisorRole:
		return failover.Supervise
	}
	if f := contest.FindFan(role); f != nil {
		return f.Serve
	}
	if c := contest.Find(role); c != nil {
		return c.Serve
	}
	return nil
}

// run is the whole command. quickly is what -quick asks for.
func run(args []string, quickly effort, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage) }
	quick := flags.Bool("quick", false, "")
	pattern := flags.String("run", "", "")
	list := flags.Bool("list", false, "")
	size := flags.Int("size", 0, "")
	rounds := flags.Int("rounds", 0, "")
	turn := flags.Duration("turn", 0, "")
	pin := flags.Bool("pin", false, "")
	against := flags.String("against", "", "")
	folder := flags.String("o", "results", "")
	readme := flags.String("readme", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; see -h", flags.Arg(0))
	}
	match, err := regexp.Compile(*pattern)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	effort := thorough()
	if *quick {
		effort = quickly
	}
	if *rounds > 0 {
		effort.rounds = *rounds
	}
	if *turn > 0 {
		effort.turn = *turn
	}
	if all := append(contest.Sizes, contest.HugeSize); *size != 0 && !slices.Contains(all, *size) {
		return fmt.Errorf("-size: messages have %v bytes, not %d", all, *size)
	}
	b := &bench{size: *size, effort: effort, match: match, folder: *folder, readme: *readme,
		pinned: *pin, progress: newProgress(stderr)}
	if *list {
		return b.list(stdout)
	}
	if *readme != "" {
		if _, _, err := splitReadme(*readme); err != nil {
			return err
		}
	}
	if *pin {
		if err := peer.Pin(0, 1); err != nil {
			return err
		}
	}
	return scratch.Run("bench", func(dir string) error {
		if *against == "" {
			return b.run(stdout)
		}
		pairs, args := defaultPairs, []string{"-turn", effort.turn.String()}
		if *rounds > 0 {
			pairs = *rounds
		}
		flags.Visit(func(f *flag.Flag) {
			switch f.Name {
			case "size", "pin", "quick":
				args = append(args, "-"+f.Name+"="+f.Value.String())
			}
		})
		return b.compare(*against, dir, pairs, args, stdout)
	})
}
