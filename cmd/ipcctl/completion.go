package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/dynamic"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/reach"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/survey"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/visible"
)

const completionHelp = `usage: ipcctl completion bash | zsh | fish

Prints the completion for a shell: of commands, flags, names in the domain, and
methods, messages and topics, for which the server is asked. Files are completed
as the shell does.

  ipcctl completion bash >~/.local/share/bash-completion/completions/ipcctl
  ipcctl completion zsh >"${fpath[1]}/_ipcctl"
  ipcctl completion fish >~/.config/fish/completions/ipcctl.fish

For the shell that runs, bash: source <(ipcctl completion bash), and likewise in
zsh. The file needs no other package.

Flags:
  -h             print this
`

// completeCommand is the hidden command that scripts of shells call, with the words of the command
// line behind the name of the program, up to the one with the cursor.
const completeCommand = "__complete"

// shells have the script of each shell. No script evaluates what was typed.
var shells = map[string]string{
	"bash": `_ipcctl() {
  local line
  COMPREPLY=()
  while IFS= read -r line; do
    COMPREPLY+=("${line%%$'\t'*}")
  done < <("${COMP_WORDS[0]/#\~/$HOME}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _ipcctl ipcctl
`,
	"zsh": `#compdef ipcctl
_ipcctl() {
  local line program=${words[1]/#\~/$HOME}
  local -a found
  for line in "${(@f)$("$program" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
    [[ -n $line ]] && found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
  done
  if (( $#found )); then
    _describe ipcctl found
  else
    _files
  fi
}
if [[ $funcstack[1] = _ipcctl ]]; then
  _ipcctl "$@"
else
  compdef _ipcctl ipcctl
fi
`,
	"fish": `function __ipcctl_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    set -l found ($before[1] __complete $before[2..-1] "$current" 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path "$current"
    end
end
complete -c ipcctl -e
complete -c ipcctl -f -a '(__ipcctl_complete)'
`,
}

func (t *terminal) completion() *cli.Command {
	return &cli.Command{
		Name:               "completion",
		Usage:              "print the completion for a shell",
		CustomHelpTemplate: completionHelp,
		Action: func(_ context.Context, c *cli.Command) error {
			script := shells[c.Args().First()]
			if c.NArg() != 1 || script == "" {
				return usagef("completion takes the name of a shell: bash, zsh or fish")
			}
			_, err := io.WriteString(t.out, script)
			return err
		},
	}
}

func (t *terminal) complete() *cli.Command {
	return &cli.Command{
		Name:            completeCommand,
		Hidden:          true,
		SkipFlagParsing: true,
		Action: func(ctx context.Context, c *cli.Command) error {
			ctx, cancel := context.WithTimeout(ctx, completeFor)
			defer cancel()
			for _, candidate := range t.candidates(ctx, c.Args().Slice()) {
				if _, err := fmt.Fprintln(t.out, candidate); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// completeFor is how long a completion may take, a server's answer included.
const completeFor = 2 * time.Second

// candidates returns what the last word can become, each with a tab and what it is if that helps.
func (t *terminal) candidates(ctx context.Context, words []string) (found []string) {
	if len(words) == 0 {
		return nil
	}
	current, before := words[len(words)-1], words[:len(words)-1]
	add := func(word, about string) {
		if word = visible.Line(word); strings.HasPrefix(word, current) {
			if about != "" {
				word += "\t" + about
			}
			found = append(found, word)
		}
	}
	commands := t.app().Commands
	if len(before) == 0 {
		for _, c := range commands {
			if !c.Hidden {
				add(c.Name, c.Usage)
			}
		}
		return found
	}
	i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.Name == before[0] })
	if i < 0 {
		return nil
	}
	line := parseWords(commands[i], before[1:])
	line.current = current
	switch {
	case line.flag != "":
		for _, word := range line.valuesOf(ctx, commands[i].Name) {
			add(word, "")
		}
	case strings.HasPrefix(current, "-"):
		for _, f := range commands[i].Flags {
			add("-"+f.Names()[0], "")
		}
		add("-h", "")
	default:
		for _, word := range line.argument(ctx, commands[i].Name) {
			add(word, "")
		}
	}
	return found
}

// A typed is a command line behind the command, up to the word that is completed.
type typed struct {
	flags     map[string]string // that have a value
	flag      string            // whose value the next word is; empty for none
	arguments []string
	current   string // the word that is completed
}

// parseWords sorts the words behind a command.
func parseWords(c *cli.Command, words []string) typed {
	line := typed{flags: make(map[string]string)}
	for _, w := range words {
		name, value, assigned := strings.Cut(strings.TrimLeft(w, "-"), "=")
		switch {
		case line.flag != "":
			line.flags[line.flag], line.flag = w, ""
		case !strings.HasPrefix(w, "-") || w == "-":
			line.arguments = append(line.arguments, w)
		case assigned:
			line.flags[name] = value
		case slices.ContainsFunc(c.Flags, func(f cli.Flag) bool {
			_, isBool := f.(*cli.BoolFlag)
			return f.Names()[0] == name && !isBool
		}):
			line.flag = name
		}
	}
	return line
}

// valuesOf returns what the value of a flag can be; none for a file, and for what is not known.
func (l *typed) valuesOf(ctx context.Context, command string) []string {
	switch l.flag {
	case "method", "protocol":
		s := l.schema(ctx)
		switch {
		case s == nil || command == "replay":
			return nil
		case l.flag == "protocol":
			var names []string
			for _, p := range s.Protocols() {
				names = append(names, p.Name)
			}
			return names
		case command == "record":
			return l.shortest(append(append(s.Methods(), s.Messages()...), s.Topics()...))
		}
		return l.shortest(append(s.Methods(), s.Messages()...))
	case "speed":
		return []string{"max"}
	case "to":
		return []string{"json", "binary"}
	}
	return nil
}

// argument returns what the next argument can be; none for a file, and for what is not known.
func (l *typed) argument(ctx context.Context, command string) []string {
	n := len(l.arguments)
	switch command {
	case "completion":
		return []string{"bash", "fish", "zsh"}
	case "failover", "roll":
		if s, err := survey.Of(l.flags["domain"]); err == nil && n == 0 {
			return s.Groups()
		}
		return nil
	case "replay":
		n-- // the file comes first
	case "call", "bench", "send", "subscribe":
		if n != 1 {
			break
		}
		s := l.schema(ctx)
		switch {
		case s == nil:
			return nil
		case command == "send":
			return l.shortest(s.Messages())
		case command == "subscribe":
			return l.shortest(s.Topics())
		}
		return l.shortest(s.Methods())
	case "describe", "tap", "drain":
	case "record":
		n = 0 // each argument is a name
	default:
		return nil
	}
	if s, err := survey.Of(l.flags["domain"]); err == nil && n == 0 {
		return s.Names()
	}
	return nil
}

// schema returns the schema that the line names, or that the server which it names tells, or nil.
func (l *typed) schema(ctx context.Context) *dynamic.Schema {
	if file := l.flags["schema"]; file != "" {
		s, err := dynamic.Load(file, nil, io.Discard)
		if err != nil {
			return nil
		}
		return s
	}
	if len(l.arguments) == 0 {
		return nil
	}
	conn, err := reach.Dial(ctx, l.flags["domain"], l.arguments[0], completeFor)
	if err != nil {
		return nil
	}
	defer conn.Close()
	s, err := dynamic.Ask(ctx, conn, l.arguments[0])
	if err != nil {
		return nil
	}
	return s.Schema
}

// shortest returns names without the parts in front that tell nothing, unless such a part is typed.
func (l *typed) shortest(full []string) []string {
	if strings.Contains(l.current, ".") {
		return full
	}
	last := func(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }
	count := make(map[string]int)
	for _, name := range full {
		count[last(name)]++
	}
	var names []string
	for _, name := range full {
		if count[last(name)] == 1 {
			name = last(name)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
