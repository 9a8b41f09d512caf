// Command gensize measures what a user of a large schema waits for: the
// generator, and then the Go compiler. It sets ipcgen beside flatc. Run it with
// -h.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ipcgen/ipcgen/bench/internal/report"
	"github.com/ipcgen/ipcgen/bench/internal/scratch"
)

const usage = `usage: go run ./gensize [flags]

Writes a schema of many tables, lets ipcgen and flatc generate Go from it, and
builds both. Where there is no flatc it says so and goes on without.

Building flatc's output for 2,000 tables takes minutes and about 10 GB.

  -tables N    tables in the schema (default 200)
  -fields N    fields in each (default 20)
  -runs N      generate so often and take the median (default 5)
  -flatc FILE  the flatc to compare with (default: the one in $PATH)
  -no-build    only generate
`

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "gensize:", err)
		os.Exit(1)
	}
}

// settings are the command line.
type settings struct {
	tables, fields, runs int
	flatc                string
	build                bool
}

// run is the whole command.
func run(args []string, stdout, stderr io.Writer) error {
	s := settings{build: true}
	flags := flag.NewFlagSet("gensize", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage) }
	flags.IntVar(&s.tables, "tables", 200, "")
	flags.IntVar(&s.fields, "fields", 20, "")
	flags.IntVar(&s.runs, "runs", 5, "")
	flags.StringVar(&s.flatc, "flatc", "flatc", "")
	noBuild := flags.Bool("no-build", false, "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	s.build = !*noBuild
	if s.tables < 1 || s.fields < 1 || s.runs < 1 || flags.NArg() > 0 {
		return errors.New(
			"tables, fields and runs must be positive, and there are no arguments; see -h")
	}
	return scratch.Run("gensize", func(dir string) error { return measure(s, dir, stdout, stderr) })
}

// A contestant is a generator with what was measured of it.
type contestant struct {
	name     string
	generate *exec.Cmd // run in the folder that becomes the module
	module   string

	generated, again, built cost
	bytes                   int64
}

// measure does everything within dir.
func measure(s settings, dir string, stdout, stderr io.Writer) error {
	schema := filepath.Join(dir, "big.fbs")
	f, err := os.Create(schema)
	if err != nil {
		return err
	}
	if err := errors.Join(writeSchema(f, s.tables, s.fields), f.Close()); err != nil {
		return err
	}
	repo, err := repository()
	if err != nil {
		return err
	}
	ipcgen := filepath.Join(dir, "ipcgen")
	build := exec.Command("go", "build", "-o", ipcgen, "./cmd/ipcgen")
	build.Dir = repo
	if _, err := costOf(build); err != nil {
		return err
	}
	cs := []*contestant{{name: "ipcgen", generate: exec.Command(ipcgen, "-o", ".", schema)}}
	if flatc, version, err := findFlatc(s.flatc); err != nil {
		fmt.Fprintln(stderr, "gensize: without flatc:", err)
	} else {
		cs = append(cs, &contestant{name: version,
			generate: exec.Command(flatc, "--go", "--gen-object-api", "-o", ".", schema)})
	}
	for i, c := range cs {
		c.module = filepath.Join(dir, fmt.Sprint("module", i))
		if err := c.measure(s, repo, stderr); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return tabulate(s, cs, stdout)
}

// findFlatc returns the path of flatc and what it calls itself.
func findFlatc(name string) (path, version string, err error) {
	if path, err = exec.LookPath(name); err != nil {
		return "", "", fmt.Errorf("%w; Debian's package is flatbuffers-compiler", err)
	}
	out, err := exec.Command(path, "--version").Output()
	if err != nil {
		return "", "", err
	}
	return path, strings.Replace(strings.TrimSpace(string(out)), " version", "", 1), nil
}

// measure generates and builds, and tells how far it is: a build can take
// minutes.
func (c *contestant) measure(s settings, repo string, stderr io.Writer) error {
	var fresh, again []cost
	for range s.runs {
		if err := os.RemoveAll(c.module); err != nil {
			return err
		}
		if err := newModule(c.module, repo); err != nil {
			return err
		}
		for _, to := range []*[]cost{&fresh, &again} {
			cmd := exec.Command(c.generate.Path, c.generate.Args[1:]...)
			cmd.Dir = c.module
			spent, err := costOf(cmd)
			if err != nil {
				return err
			}
			*to = append(*to, spent)
		}
	}
	c.generated, c.again = median(fresh), median(again)
	pkg := filepath.Join(c.module, "big")
	files, err := filepath.Glob(filepath.Join(pkg, "*.go"))
	if err != nil {
		return err
	}
	for _, name := range files {
		fi, err := os.Stat(name)
		if err != nil {
			return err
		}
		c.bytes += fi.Size()
	}
	if !s.build {
		return nil
	}
	// What both import is built beforehand.
	deps := exec.Command("go", "build", "-mod=mod", "github.com/google/flatbuffers/go", runtimePath)
	deps.Dir = c.module
	if _, err := costOf(deps); err != nil {
		return err
	}
	// The folder is new, so the package is in no cache.
	cmd := exec.Command("go", "build", "-mod=mod", "./big")
	cmd.Dir = c.module
	fmt.Fprintf(stderr, "gensize: %s generated in %s; building\n", c.name,
		seconds(c.generated.wall.Seconds()))
	if c.built, err = costOf(cmd); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "gensize: %s built in %s, with %s\n", c.name,
		seconds(c.built.wall.Seconds()), bytes(float64(c.built.memory)))
	return nil
}

func median(cs []cost) cost {
	slices.SortFunc(cs, func(a, b cost) int { return int(a.wall - b.wall) })
	return cs[len(cs)/2]
}

// tabulate prints what was measured.
func tabulate(s settings, cs []*contestant, w io.Writer) error {
	head := []string{fmt.Sprintf("%d tables of %d fields", s.tables, s.fields)}
	for _, c := range cs {
		head = append(head, c.name)
	}
	if len(cs) > 1 {
		head = append(head, "÷ ipcgen")
	}
	t := report.NewTable(head...)
	row := func(name string, show func(float64) string, value func(*contestant) float64) {
		cells := []string{name}
		for _, c := range cs {
			cells = append(cells, show(value(c)))
		}
		if len(cs) > 1 {
			cells = append(cells, report.Ratio(value(cs[1]), value(cs[0])))
		}
		t.Row(cells...)
	}
	row("generate", seconds, func(c *contestant) float64 { return c.generated.wall.Seconds() })
	row("generate, processor time", seconds, func(c *contestant) float64 {
		return c.generated.cpu.Seconds()
	})
	row("generate again, nothing changed", seconds, func(c *contestant) float64 {
		return c.again.wall.Seconds()
	})
	row("memory of the generator", bytes, func(c *contestant) float64 {
		return float64(c.generated.memory)
	})
	row("Go code", bytes, func(c *contestant) float64 { return float64(c.bytes) })
	if s.build {
		row("go build", seconds, func(c *contestant) float64 { return c.built.wall.Seconds() })
		row("go build, processor time", seconds, func(c *contestant) float64 {
			return c.built.cpu.Seconds()
		})
		row("memory of the compiler", bytes, func(c *contestant) float64 {
			return float64(c.built.memory)
		})
	}
	_, err := t.WriteTo(w)
	return err
}

func bytes(f float64) string { return report.Bytes(int64(f)) }
