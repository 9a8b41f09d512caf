// Command ipcgen reads FlatBuffers schemas and writes Go code: the accessors and objects of flatc
// --go --gen-object-api, a verifier for every table, and typed channels, clients and servers over
// shared memory.
//
// Run ipcgen -h for its usage.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/mod/module"

	"github.com/ipcgen/ipcgen/internal/bfbs"
	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/gogen"
	"github.com/ipcgen/ipcgen/internal/schema"
	"github.com/ipcgen/ipcgen/internal/stage"
)

func main() {
	// A run ends before most of its memory could be reused, and the live memory, the model of the
	// schemas, is small. Collecting less often saves time.
	debug.SetGCPercent(200)
	code, sig := run(os.Args[1:], os.Stdout, os.Stderr)
	if sig != nil {
		// The signal must be visible to the shell or make as the cause of the end.
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
code: a folder for each namespace, a file for each type. Types of included files
are generated from their own schema, by the same run or another one. A file that
is up to date is not written again, a file that its schema does not make any
more is removed, and with any error nothing changes.

  //go:generate go tool ipcgen -o gen schema/audio_protocol.fbs

What is read:
  -I dir           look for included files in dir, after the folder of the file
                   that includes them; may be given several times
  -root-type T     the root type of the schemas, instead of what they say
  -Werror          take warnings for errors

What is written:
  -o dir           write to dir and below (default ".")
  -all             generate code for included files too
  -package name    put all namespaces into one package, in the -o folder itself
  -one-file        write one file for each schema in each package
  -grpc            write stubs for gRPC as well, those of flatc --grpc
  -import path     the import path of the -o folder (default: what the go.mod in
                   or above it says)
  -go-import path  the import path of FlatBuffers' Go package, as for flatc
                   (default "github.com/google/flatbuffers/go")
  -runtime path    the import path of ipcgen's runtime
                   (default "github.com/ipcgen/ipcgen/runtime")
  -bfbs            write a binary schema, <schema>.bfbs, instead of Go
  -depfile file    write to file which outputs depend on which files read, as a
                   rule of make and ninja

What is printed, without writing anything:
  -check           the files that are missing, out of date or not made any more;
                   the exit status is 1 if there are any
  -outputs         the files that would be made, one a line
  -deps            the files read, one a line
  -dump            the resolved schemas, as JSON
  -version         the version of ipcgen
  -h               this text

Exit status: 0 done, 1 errors in a schema or its output, 2 wrong usage.
`

// A command is one run of ipcgen, with its flags and outputs.
type command struct {
	includes           pathList
	out                string
	importPath, pkg    string
	goImport, runtime  string
	rootType, depfile  string
	oneFile, all, bfbs bool
	grpc               bool
	warningsAreErrors  bool

	check, dump, deps, outputs, version bool

	paths          []string
	stdout, stderr io.Writer
	signal         os.Signal // that asked the run to end while it wrote
}

// pathList is a flag that may be given several times.
type pathList []string

func (l *pathList) String() string     { return strings.Join(*l, ", ") }
func (l *pathList) Set(s string) error { *l = append(*l, s); return nil }

func run(args []string, stdout, stderr io.Writer) (code int, sig os.Signal) {
	c := &command{stdout: stdout, stderr: stderr}
	if err := c.parse(args); errors.Is(err, flag.ErrHelp) {
		return c.print(usage), nil
	} else if err != nil {
		fmt.Fprintf(stderr, "ipcgen: %v\nRun ipcgen -h for usage.\n", err)
		return exitUsage, nil
	}
	if c.version {
		return c.print("ipcgen " + version() + "\n"), nil
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

// print prints what the command was asked for, and returns the exit status.
func (c *command) print(text string) (code int) {
	if _, err := io.WriteString(c.stdout, text); err != nil {
		fmt.Fprintf(c.stderr, "ipcgen: %v\n", err)
		return exitFailed
	}
	return exitOK
}

func (c *command) loadOptions() schema.Options {
	return schema.Options{IncludeDirs: c.includes, ReadBinary: bfbs.Read, RootType: c.rootType}
}

// version returns the version of the module from which the command was built.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// flags returns the flags, which set fields of c.
func (c *command) flags() *flag.FlagSet {
	f := flag.NewFlagSet("ipcgen", flag.ContinueOnError)
	f.SetOutput(io.Discard) // run prints the error once, in its own form
	f.Var(&c.includes, "I", "")
	f.StringVar(&c.out, "o", ".", "")
	f.StringVar(&c.importPath, "import", "", "")
	f.StringVar(&c.pkg, "package", "", "")
	f.StringVar(&c.goImport, "go-import", "", "")
	f.StringVar(&c.runtime, "runtime", "", "")
	f.StringVar(&c.rootType, "root-type", "", "")
	f.StringVar(&c.depfile, "depfile", "", "")
	f.BoolVar(&c.oneFile, "one-file", false, "")
	f.BoolVar(&c.all, "all", false, "")
	f.BoolVar(&c.grpc, "grpc", false, "")
	f.BoolVar(&c.bfbs, "bfbs", false, "")
	f.BoolVar(&c.warningsAreErrors, "Werror", false, "")
	f.BoolVar(&c.check, "check", false, "")
	f.BoolVar(&c.dump, "dump", false, "")
	f.BoolVar(&c.deps, "deps", false, "")
	f.BoolVar(&c.outputs, "outputs", false, "")
	f.BoolVar(&c.version, "version", false, "")
	return f
}

// parse parses the command line. It returns flag.ErrHelp if help was asked for.
func (c *command) parse(args []string) error {
	f := c.flags()
	if err := f.Parse(args); err != nil {
		return err
	}
	c.paths = f.Args()
	if c.version {
		return nil
	}
	given := make(map[string]bool)
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	return c.validate(given)
}

// validate reports flags and arguments that have no meaning.
func (c *command) validate(given map[string]bool) error {
	if len(c.paths) == 0 {
		return errors.New("no schema given")
	}
	// flag.Parse stops at the first path, and a flag after it would be read as the name of a
	// schema.
	for _, p := range c.paths {
		if strings.HasPrefix(p, "-") {
			return fmt.Errorf("flag %s comes after a schema; put flags first", p)
		}
		if err := checkName(p); err != nil {
			return err
		}
	}
	var prints []string
	for _, name := range []string{"check", "outputs", "deps", "dump"} {
		if given[name] {
			prints = append(prints, "-"+name)
		}
	}
	switch {
	case len(prints) > 1:
		return fmt.Errorf("%s and %s print different things instead of writing; give one of them",
			prints[0], prints[1])
	case len(prints) > 0 && c.depfile != "":
		return fmt.Errorf("-depfile is written with the outputs, and %s writes nothing; give "+
			"one of them", prints[0])
	case (c.dump || c.deps) && c.bfbs:
		return fmt.Errorf("%s is about what is read, and -bfbs about what is written; give one "+
			"of them", prints[0])
	}
	for _, name := range []string{"o", "import", "package", "go-import", "runtime",
		"root-type", "depfile"} {
		if given[name] && map[string]string{
			"o": c.out, "import": c.importPath, "package": c.pkg, "go-import": c.goImport,
			"runtime": c.runtime, "root-type": c.rootType, "depfile": c.depfile,
		}[name] == "" {
			return fmt.Errorf("-%s is empty", name)
		}
	}
	for _, dir := range c.includes {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return fmt.Errorf("-I %s: there is no such folder", dir)
		}
	}
	if err := checkName(c.out); err != nil {
		return fmt.Errorf("-o: %w", err)
	}
	for _, p := range []struct{ flag, path string }{
		{"import", c.importPath}, {"go-import", c.goImport}, {"runtime", c.runtime},
	} {
		if p.path == "" {
			continue
		}
		if err := module.CheckImportPath(p.path); err != nil {
			return fmt.Errorf("-%s: %w", p.flag, err)
		}
	}
	switch {
	case c.pkg == "":
	case token.IsKeyword(c.pkg):
		return fmt.Errorf("-package %s: the name is a keyword of Go", c.pkg)
	case !token.IsIdentifier(c.pkg) || c.pkg == "_":
		return fmt.Errorf("-package %q: a package's name is an identifier of Go", c.pkg)
	case c.pkg == "documentation":
		return fmt.Errorf("-package %s: the go command does not build packages of this name", c.pkg)
	}
	return c.validateDepfile()
}

// do does what the flags ask for. Errors in schemas go to diags; the returned error is any other
// one.
func (c *command) do(schemas []*schema.Schema, diags *diag.List) (code int, err error) {
	if err := c.warnings(diags); err != nil || diags.HasErrors() {
		return exitFailed, err
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
	if err := c.warnings(diags); err != nil {
		return exitFailed, err
	}
	switch {
	case c.outputs:
		return exitOK, c.printLines(t.paths())
	case c.check:
		return c.compare(t)
	default:
		return c.write(t, schema.FilesRead(schemas))
	}
}

// warnings returns an error for warnings if -Werror is set.
func (c *command) warnings(diags *diag.List) error {
	if n := diags.Warnings(); n > 0 && c.warningsAreErrors {
		return fmt.Errorf("-Werror, and there %s", count(n, "is %d warning", "are %d warnings"))
	}
	return nil
}

// count formats n with the form for one thing or that for several.
func count(n int, one, many string) string {
	if n == 1 {
		return fmt.Sprintf(one, n)
	}
	return fmt.Sprintf(many, n)
}

// compare prints the changes that a run would make.
func (c *command) compare(t *tree) (code int, err error) {
	if err := t.compare(); err != nil {
		return exitFailed, err
	}
	changed := append(t.stale, t.old...)
	if err := c.printLines(changed); err != nil {
		return exitFailed, err
	}
	if len(changed) > 0 {
		return exitFailed,
			fmt.Errorf("%s not up to date; run ipcgen without -check",
				count(len(changed), "%d file is", "%d files are"))
	}
	return exitOK, nil
}

// write makes the changes.
func (c *command) write(t *tree, read []string) (code int, err error) {
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
	var rule []byte
	if c.depfile != "" {
		rule = dependencies(t.paths(), read)
		if old, err := os.ReadFile(c.depfile); err == nil && bytes.Equal(old, rule) {
			rule = nil
		}
	}
	if len(t.stale)+len(t.old) == 0 && rule == nil {
		return exitOK, nil
	}
	if waited, _ := t.change.Begin(); waited {
		// Files compared before the lock was free may have changed.
		t.change.Reset()
		if err := t.compare(); err != nil {
			return exitFailed, err
		}
	}
	if rule != nil {
		if err := t.change.Write(c.depfile, rule); err != nil {
			return exitFailed, cannotWrite(c.depfile, err)
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

// printLines prints paths, one per line.
func (c *command) printLines(paths []string) error {
	for _, path := range paths {
		if _, err := fmt.Fprintln(c.stdout, path); err != nil {
			return err
		}
	}
	return nil
}

// plan determines the files that the run produces.
func (c *command) plan(schemas []*schema.Schema, diags *diag.List) (*tree, error) {
	out, err := openOutput(c.out, c.includes)
	if err != nil {
		return nil, err
	}
	t := &tree{
		out: out, sweep: !c.bfbs, byName: make(map[string]*product), owned: make(map[string]bool),
		loader: c.loadOptions(), schemas: len(schemas),
	}
	if c.bfbs {
		return t, c.planBinary(t, schemas, diags)
	}
	opts := gogen.Options{ImportPath: c.importPath, Package: c.pkg, OneFile: c.oneFile, All: c.all,
		GRPC: c.grpc, Flatbuffers: c.goImport, Runtime: c.runtime}
	if opts.ImportPath == "" {
		if opts.ImportPath, err = out.importPath(); err != nil {
			return nil, err
		}
	}
	if opts.RootPackage, err = out.packageOf(); err != nil {
		return nil, err
	}
	names := make(map[*schema.File]string)
	files := make(map[string]string) // resolved paths by name
	opts.Source = func(f *schema.File) string { return names[f] }
	t.opts = opts
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
			if f.Path == "" {
				continue // a binary schema mentions it only
			}
			real, err := realPath(f.Path)
			if err != nil {
				return nil, err
			}
			if other, ok := files[names[f]]; ok && real != other {
				return nil,
					fmt.Errorf("%s and %s have the same name, %s, for those who look at the "+
						"output; give their paths relative to the current folder, or name a "+
						"folder around them with -I", other, f.Path, names[f])
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

// add adds a file to the products of the run. Several schemas may produce a file if it belongs to a
// schema that all of them include.
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
		return fmt.Errorf("%s and %s both generate %s; give their types different names or "+
			"namespaces, or run ipcgen for each with its own -o",
			t.display(prev.source), t.display(p.source), paths)
	}
	return nil
}
