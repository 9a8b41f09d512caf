package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v3"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/dynamic"
	"github.com/ipcgen/ipcgen/runtime/fbjson"
)

const convertHelp = `usage: ipcctl convert -schema file [flags] in out

Converts a message from JSON to a FlatBuffer, or back. The direction follows
from the content of in; - stands for standard input or output. Buffers are
verified before they are read. With an error, out stays as it was.

  ipcctl convert -schema monster.fbs orc.json orc.bin
  ipcctl convert -schema monster.bfbs -type game.Monster orc.bin -

Flags:
  -schema file     the schema, .fbs or .bfbs
  -I dir           look for included files in dir, too; may be repeated
  -type table      the message, with its namespace (default: the root_type)
  -to form         json or binary, where the content of in leaves it open
  -size-prefixed   the buffer has its length in front, 4 bytes, little endian
  -indent n        indent JSON by n spaces (default 2); 0 for one line
  -defaults        write absent scalars with their defaults, into either form
  -flatc           write the text that flatc -t writes
  -strict          read nothing but JSON; write -flatc's text with quotes
  -unknown         skip members that the schema does not know
  -max-size n      refuse input of more than n bytes (default 268435456)
  -h               print this
`

// maxInput is how much convert reads if nothing else is asked for. Reading JSON takes several times
// as much memory.
const maxInput = 256 << 20

func (t *terminal) convert() *cli.Command {
	return &cli.Command{
		Name:  "convert",
		Usage: "convert a message from JSON to FlatBuffers, or back",
		Flags: append(schemaFlags(),
			&cli.StringFlag{Name: "type"}, &cli.StringFlag{Name: "to"},
			&cli.BoolFlag{Name: "size-prefixed"}, &cli.IntFlag{Name: "indent", Value: 2},
			&cli.BoolFlag{Name: "defaults"}, &cli.BoolFlag{Name: "flatc"},
			&cli.BoolFlag{Name: "strict"}, &cli.BoolFlag{Name: "unknown"},
			&cli.Int64Flag{Name: "max-size", Value: maxInput}),
		CustomHelpTemplate: convertHelp,
		Action:             t.doConvert,
	}
}

func (t *terminal) doConvert(ctx context.Context, c *cli.Command) error {
	to := c.String("to")
	switch {
	case c.String("schema") == "":
		return usagef("-schema is missing")
	case c.NArg() != 2:
		return usagef("convert takes two arguments, in and out, not %d", c.NArg())
	case to != "" && to != "json" && to != "binary":
		return usagef("-to %s: it is json or binary", to)
	case c.Int("indent") < 0 || c.Int("indent") > 80:
		return usagef("-indent %d: 0 to 80 spaces", c.Int("indent"))
	case c.Int64("max-size") <= 0:
		return usagef("-max-size %d: it is a number of bytes", c.Int64("max-size"))
	}
	result, err := await(ctx, func() ([]byte, error) { return t.converted(c) })
	if err != nil {
		return err
	}
	return t.writeOutput(ctx, c.Args().Get(1), result)
}

// converted reads the input, and converts it.
func (t *terminal) converted(c *cli.Command) ([]byte, error) {
	s, err := dynamic.Load(c.String("schema"), c.StringSlice("I"), t.err)
	if err != nil {
		return nil, err
	}
	typ, err := s.Type(c.String("type"))
	if err != nil {
		return nil, err
	}
	in, to := c.Args().Get(0), c.String("to")
	data, err := t.readInput(in, c.Int64("max-size"))
	if err != nil {
		return nil, err
	}
	if in == "-" {
		in = "standard input"
	}
	if to == "" {
		to = "json"
		if isText(data) {
			to = "binary"
		}
	}
	result, err := transform(typ, data, to, c)
	var at *fbjson.Error
	switch {
	case errors.As(err, &at):
		return nil, fmt.Errorf("%s:%w", in, err) // file:line:column
	case err != nil:
		return nil, fmt.Errorf("%s: %w", in, err)
	}
	return result, nil
}

// transform converts data, by the flags of c.
func transform(typ *fbjson.Type, data []byte, to string, c *cli.Command) ([]byte, error) {
	if to == "binary" {
		buf, err := typ.AppendBuffer(nil, data, &fbjson.ReadOptions{Strict: c.Bool("strict"),
			AllowUnknown: c.Bool("unknown"), ForceDefaults: c.Bool("defaults")})
		if err == nil && c.Bool("size-prefixed") {
			buf = append(binary.LittleEndian.AppendUint32(nil, uint32(len(buf))), buf...)
		}
		return buf, err
	}
	if c.Bool("size-prefixed") {
		if len(data) < 4 || uint64(binary.LittleEndian.Uint32(data)) != uint64(len(data)-4) {
			return nil, fmt.Errorf("its first 4 bytes are not the length of the other %d",
				max(0, len(data)-4))
		}
		data = data[4:]
	}
	o := &fbjson.WriteOptions{Indent: int(c.Int("indent")), Defaults: c.Bool("defaults"),
		Flatc: c.Bool("flatc"), Strict: c.Bool("strict")}
	text, err := typ.AppendJSON(nil, data, o)
	if err == nil && !o.Flatc { // flatc ends its text by itself
		text = append(text, '\n')
	}
	return text, err
}

// isText reports whether data is JSON, as far as its form tells: text that begins with a brace, a
// bracket or a comment.
func isText(data []byte) bool {
	data = bytes.TrimLeft(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), " \t\r\n")
	if len(data) == 0 || !strings.ContainsRune("{[/", rune(data[0])) {
		return false
	}
	start := data[:min(len(data), 4096)]
	return bytes.IndexByte(start, 0) < 0 && utf8.Valid(start[:len(start)-partialRune(start)])
}

// partialRune returns the number of bytes at the end of b that begin a character and do not end it.
func partialRune(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if c := b[len(b)-n]; utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(b[len(b)-n:]) {
				return n
			}
			return 0
		}
	}
	return 0
}

// readInput reads a file, or standard input for "-".
func (t *terminal) readInput(name string, limit int64) ([]byte, error) {
	r := t.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && info.Size() > limit {
			return nil, tooLongInput(name, limit) // before it takes memory
		}
		r = f
	}
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = tooLongInput(name, limit)
	}
	return data, err
}

func tooLongInput(name string, limit int64) error {
	return fmt.Errorf("%s: more than %d bytes; -max-size allows more", name, limit)
}

// writeOutput writes a file, or standard output for "-". A file has its name when it is whole.
func (t *terminal) writeOutput(ctx context.Context, name string, data []byte) error {
	if name != "-" {
		return writeFile(ctx, name, data)
	}
	_, err := t.out.Write(data)
	return err
}

// writeFile writes a file that has its name when it is whole. To a pipe, it writes until ctx is
// done.
func writeFile(ctx context.Context, name string, data []byte) (err error) {
	mode := fs.FileMode(0o666)
	if info, err := os.Stat(name); err == nil {
		if mode = info.Mode(); !mode.IsRegular() { // a device or a pipe
			_, err := await(ctx, func() (struct{}, error) {
				return struct{}{}, os.WriteFile(name, data, 0)
			})
			return err
		}
		if name, err = filepath.EvalSymlinks(name); err != nil {
			return err
		}
	}
	defer func() {
		var at *fs.PathError
		if errors.As(err, &at) {
			at.Path = name // the name beside it is of no use
		}
	}()
	f, err := createBeside(name, mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync() // before the name says that the file is whole
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// createBeside creates a file in the folder of another one.
func createBeside(name string, mode fs.FileMode) (*os.File, error) {
	for i := 0; ; i++ {
		f, err := os.OpenFile(fmt.Sprintf("%s.%d.%d.tmp", name, os.Getpid(), i),
			os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode.Perm())
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
}
