// Command ipcgen reads FlatBuffers schemas and writes Go: the accessors and
// objects of flatc --go --gen-object-api, a verifier for every table, and typed
// channels, clients and servers over shared memory.
//
// Run ipcgen -h for its usage.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/ipcgen/ipcgen/internal/bfbs"
	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/gogen"
	"github.com/ipcgen/ipcgen/internal/schema"
	"github.com/ipcgen/ipcgen/internal/stage"
)

func main() {
	// A run is over before most of its memory could be used again: to collect it
	// less often saves a large schema a fifth of the time.
	debug.SetGCPercent(400)
	code, sig := run(os.Args[1:], os.Stdout, os.Stderr)
	if sig != nil {
		// The shell, or make, shall see what ended the command.
		if self, err := os.FindProcess(os.Getpid()); err == nil && self.Signal(sig) == nil {
			time.Sleep(time.Second)
		}
	}
	os.Exit(code)
}

// The exit statuses.
const (
	exitOK     = 0
	exitFailed = 1 // a schema with errors, stale files under -check, a file that cannot be written
	exitUsage  = 2
)

const usage = `usage: ipcgen [flags] schema.fbs...

ipcgen reads FlatBuffers schemas (.fbs, or flatc's binary .bfbs) and writes Go
code for them, one folder per namespace and one file per type. Types of included
files are expected to be generated from their own schema, by the same or another
run. What already is as it should be is not written again, files of types that
the schema no longer has are removed, and with any error nothing changes.

  //go:generate go tool ipcgen -o gen schema/audio_protocol.fbs

Flags:
  -I dir         look for included files in dir too, after the folder of the file
                 that includes them; may be given several times
  -o dir         write below dir (default ".")
  -import path   the import path of the -o folder (default: from the go.mod in or
                 above it)
  -package name  put all namespaces into this one package, in the -o folder itself
  -one-file      write each package as one file
  -all           generate code for included schemas too
  -bfbs          write the binary schema, <schema>.bfbs, instead of Go
  -check         write nothing; list the files that are missing, not up to date or
                 no longer made, and end with status 1 if there are any
  -dump          write nothing; print the resolved schemas as JSON
  -deps          write nothing; print the path of every file read, one a line
  -h             print this

Exit status: 0 done, 1 errors in a schema or its output, 2 wrong usage.
`

// A command is one run of ipcgen: its flags and where it prints.
type command struct {
	includes        pathList
	out             string
	importPath, pkg string
	oneFile, all    bool
	bfbs, check     bool
	dump, deps      bool
	outputs         bool
	paths           []string
	stdout, stderr  io.Writer
	signal          os.Signal // that asked the run to end while it wrote
}

// pathList is a flag that may be given several times.
type pathList []string

func (l *pathList) String() string     { return strings.Join(*l, ", ") }
func (l *pathList) Set(s string) error { *l = append(*l, s); return nil }

func run(args []string, stdout, stderr io.Writer) (code int, sig os.Signal) {
	c := &command{stdout: stdout, stderr: stderr}
	if err := c.parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		return exitOK, nil
	} else if err != nil {
		fmt.Fprintf(stderr, "ipcgen: %v\nRun ipcgen -h for usage.\n", err)
		return exitUsage, nil
	}
	schemas, diags := schema.Load(c.loadOptions(), c.paths...)
	code, err := c.do(schemas, diags)
	if renderErr := diags.Render(stderr); renderErr != nil && err == nil {
		err = renderErr
	}
	if err != nil {
		fmt.Fprintf(stderr, "ipcgen: %v\n", err)
	}
	if err != nil || diags.HasErrors() {
		return exitFailed, c.signal
	}
	return code, c.signal
}

func (c *command) loadOptions() schema.Options {
	return schema.Options{IncludeDirs: c.includes, ReadBinary: bfbs.Read}
}

// parse reads the command line. It returns flag.ErrHelp where help was asked for.
func (c *command) parse(args []string) error {
	f := flag.NewFlagSet("ipcgen", flag.ContinueOnError)
	f.SetOutput(io.Discard) // run prints the error once, in its own form
	f.Var(&c.includes, "I", "")
	f.StringVar(&c.out, "o", ".", "")
	f.StringVar(&c.importPath, "import", "", "")
	f.StringVar(&c.pkg, "package", "", "")
	f.BoolVar(&c.oneFile, "one-file", false, "")
	f.BoolVar(&c.all, "all", false, "")
	f.BoolVar(&c.bfbs, "bfbs", false, "")
	f.BoolVar(&c.check, "check", false, "")
	f.BoolVar(&c.dump, "dump", false, "")
	f.BoolVar(&c.deps, "deps", false, "")
	f.BoolVar(&c.outputs, "outputs", false, "")
	if err := f.Parse(args); err != nil {
		return err
	}
	c.paths = f.Args()
	switch {
	case len(c.paths) == 0:
		return errors.New("no schema given")
	case c.dump && c.deps, (c.dump || c.deps) && (c.check || c.bfbs):
		return errors.New("-dump and -deps print instead of writing; give one of them, without -check and -bfbs")
	}
	// flag.Parse stops at the first path; a flag behind it would be taken for a
	// schema's name.
	for _, p := range c.paths {
		if strings.HasPrefix(p, "-") {
			return fmt.Errorf("flag %s comes after a schema; put flags first", p)
		}
	}
	return nil
}

// do carries out what the flags ask for. Diagnostics go to diags; an error is
// what has no place in a schema.
func (c *command) do(schemas []*schema.Schema, diags *diag.List) (code int, err error) {
	if diags.HasErrors() {
		return exitFailed, nil
	}
	switch {
	case c.dump:
		return exitOK, c.printDump(schemas)
	case c.deps:
		return exitOK, c.printLines(schema.FilesRead(schemas))
	}
	t, err := c.plan(schemas, diags)
	if err != nil || diags.HasErrors() {
		return exitFailed, err
	}
	switch {
	case c.outputs:
		var paths []string
		for _, p := range t.products {
			paths = append(paths, p.path)
		}
		return exitOK, c.printLines(paths)
	case c.check:
		return c.compare(t)
	default:
		return c.write(t)
	}
}

// compare lists what a run would change.
func (c *command) compare(t *tree) (code int, err error) {
	if err := t.compare(); err != nil {
		return exitFailed, err
	}
	changed := append(t.stale, t.old...)
	if err := c.printLines(changed); err != nil {
		return exitFailed, err
	}
	if len(changed) > 0 {
		return exitFailed, fmt.Errorf("%d files are not up to date; run ipcgen without -check", len(changed))
	}
	return exitOK, nil
}

// write changes what has to be.
func (c *command) write(t *tree) (code int, err error) {
	t.change = stage.New(c.out)
	t.change.Waiting = func() {
		fmt.Fprintf(c.stderr, "ipcgen: waiting for another ipcgen that writes to %s\n", c.out)
	}
	defer func() { c.signal = t.change.Close() }()
	if t.change.Abandoned() {
		if _, err := t.change.Begin(); err != nil {
			return exitFailed, err
		}
	}
	if err := t.compare(); err != nil {
		return exitFailed, err
	}
	if len(t.stale)+len(t.old) == 0 {
		return exitOK, nil
	}
	if waited, _ := t.change.Begin(); waited {
		// What was compared before the lock was free may be another by now.
		t.change.Reset()
		if err := t.compare(); err != nil {
			return exitFailed, err
		}
	}
	if err := t.change.Commit(); err != nil {
		return exitFailed, fmt.Errorf("nothing was changed: %w", err)
	}
	return exitOK, nil
}

// printDump prints the resolved models, one JSON document after the other.
func (c *command) printDump(schemas []*schema.Schema) error {
	for _, s := range schemas {
		if err := s.Dump(c.stdout); err != nil {
			return err
		}
	}
	return nil
}

// printLines prints paths, one a line.
func (c *command) printLines(paths []string) error {
	for _, path := range paths {
		if _, err := fmt.Fprintln(c.stdout, path); err != nil {
			return err
		}
	}
	return nil
}

// plan finds out what the run makes.
func (c *command) plan(schemas []*schema.Schema, diags *diag.List) (*tree, error) {
	out, err := openOutput(c.out, c.includes)
	if err != nil {
		return nil, err
	}
	t := &tree{
		out: out, sweep: !c.bfbs, byName: make(map[string]*product), owned: make(map[string]bool),
		loader: c.loadOptions(),
	}
	if c.bfbs {
		return t, c.planBinary(t, schemas, diags)
	}
	opts := gogen.Options{ImportPath: c.importPath, Package: c.pkg, OneFile: c.oneFile, All: c.all}
	if opts.ImportPath == "" {
		if opts.ImportPath, err = out.importPath(); err != nil {
			return nil, err
		}
	}
	if opts.RootPackage, err = out.packageOf(); err != nil {
		return nil, err
	}
	names := make(map[*schema.File]string)
	files := make(map[string]string) // real paths by name
	opts.Source = func(f *schema.File) string { return names[f] }
	for i, s := range schemas {
		for _, f := range s.Files {
			names[f] = out.name(f)
			if !f.Root && !c.all {
				continue
			}
			if err := checkName(names[f]); err != nil {
				return nil, err
			}
			t.owned[names[f]] = true
			real := resolve(f.Path)
			if other, ok := files[names[f]]; ok && f.Path != "" && other != "" && real != other {
				return nil, fmt.Errorf("%s and %s have the same name, %s, for those who look at the output; give their paths relative to the current folder, or name a folder around them with -I", other, f.Path, names[f])
			}
			files[names[f]] = real
		}
		for _, d := range gogen.Plan(s, opts, diags) {
			p := &product{
				path: filepath.Join(c.out, filepath.FromSlash(d.Path)),
				name: d.Path, pkg: d.Package, source: names[d.Declarer], types: d.Types,
			}
			if err := t.add(p, rendering{c.paths[i], d.Render}); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

// planBinary has the run make the .bfbs of each schema.
func (c *command) planBinary(t *tree, schemas []*schema.Schema, diags *diag.List) error {
	for i, s := range schemas {
		base := strings.TrimSuffix(filepath.Base(c.paths[i]), filepath.Ext(c.paths[i])) + ".bfbs"
		p := &product{path: filepath.Join(c.out, base), name: base, source: c.paths[i]}
		data := bfbs.Write(s, diags)
		if err := t.add(p, rendering{c.paths[i], func() ([]byte, error) { return data, nil }}); err != nil {
			return err
		}
	}
	return nil
}

// add adds a file to those that the run makes. Several schemas may make it if it
// belongs to one that all of them include.
func (t *tree) add(p *product, r rendering) error {
	key := strings.ToLower(p.name)
	prev := t.byName[key]
	switch {
	case prev == nil:
		t.byName[key] = p
		t.products = append(t.products, p)
		p.render = []rendering{r}
	case prev.name == p.name && prev.source == p.source:
		prev.render = append(prev.render, r)
	default:
		paths := prev.path
		if p.path != prev.path {
			paths += " and " + p.path + ", which are one file for some systems"
		}
		return fmt.Errorf("%s and %s both generate %s; give their types different names or namespaces, or run ipcgen for each with its own -o",
			t.display(prev.source), t.display(p.source), paths)
	}
	return nil
}
