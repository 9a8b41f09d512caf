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

	"github.com/ipcgen/ipcgen/internal/bfbs"
	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/gogen"
	"github.com/ipcgen/ipcgen/internal/schema"
)

func main() {
	// A run is over before most of its memory could be used again: to collect it
	// less often saves a large schema a fifth of the time.
	debug.SetGCPercent(400)
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
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
	paths           []string
	stdout, stderr  io.Writer
}

// pathList is a flag that may be given several times.
type pathList []string

func (l *pathList) String() string     { return strings.Join(*l, ", ") }
func (l *pathList) Set(s string) error { *l = append(*l, s); return nil }

func run(args []string, stdout, stderr io.Writer) int {
	c := &command{stdout: stdout, stderr: stderr}
	if err := c.parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		return exitOK
	} else if err != nil {
		fmt.Fprintf(stderr, "ipcgen: %v\nRun ipcgen -h for usage.\n", err)
		return exitUsage
	}
	schemas, diags := schema.Load(schema.Options{IncludeDirs: c.includes, ReadBinary: bfbs.Read}, c.paths...)
	code, err := c.do(schemas, diags)
	if renderErr := diags.Render(stderr); renderErr != nil && err == nil {
		err = renderErr
	}
	if err != nil {
		fmt.Fprintf(stderr, "ipcgen: %v\n", err)
	}
	if err != nil || diags.HasErrors() {
		return exitFailed
	}
	return code
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
		return exitOK, c.printDeps(schemas)
	}
	files, err := c.generate(schemas, diags)
	if err != nil || diags.HasErrors() {
		return exitFailed, err
	}
	var headers []string
	for _, s := range schemas {
		headers = append(headers, gogen.Header(s))
	}
	difference, err := compare(files, headers)
	if err != nil {
		return exitFailed, err
	}
	if !c.check {
		return exitOK, difference.apply()
	}
	for _, f := range difference.write {
		fmt.Fprintln(c.stdout, f.path)
	}
	for _, path := range difference.remove {
		fmt.Fprintln(c.stdout, path)
	}
	if n := len(difference.write) + len(difference.remove); n > 0 {
		return exitFailed, fmt.Errorf("%d files are not up to date; run ipcgen without -check", n)
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

// printDeps prints every file read, each once.
func (c *command) printDeps(schemas []*schema.Schema) error {
	for _, path := range schema.FilesRead(schemas) {
		if _, err := fmt.Fprintln(c.stdout, path); err != nil {
			return err
		}
	}
	return nil
}

// generate makes the output of all schemas, in memory.
func (c *command) generate(schemas []*schema.Schema, diags *diag.List) ([]output, error) {
	if c.bfbs {
		return c.binary(schemas, diags), nil
	}
	opts := gogen.Options{ImportPath: c.importPath, Package: c.pkg, OneFile: c.oneFile, All: c.all}
	if opts.ImportPath == "" {
		var err error
		if opts.ImportPath, err = importPath(c.out); err != nil {
			return nil, err
		}
	}
	var files []output
	from := make(map[string]string) // output path -> schema
	for i, s := range schemas {
		for _, f := range gogen.Generate(s, opts, diags) {
			path := filepath.Join(c.out, filepath.FromSlash(f.Path))
			if other, ok := from[path]; ok && other != c.paths[i] {
				return nil, fmt.Errorf("%s and %s both generate %s; give their types different names or namespaces, or run ipcgen for each with its own -o", other, c.paths[i], path)
			}
			from[path] = c.paths[i]
			files = append(files, output{path, f.Content})
		}
	}
	return files, nil
}

// binary makes the .bfbs of each schema.
func (c *command) binary(schemas []*schema.Schema, diags *diag.List) []output {
	var files []output
	for i, s := range schemas {
		base := strings.TrimSuffix(filepath.Base(c.paths[i]), filepath.Ext(c.paths[i]))
		files = append(files, output{filepath.Join(c.out, base+".bfbs"), bfbs.Write(s, diags)})
	}
	return files
}
