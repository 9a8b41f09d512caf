package main

import (
	"cmp"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/urfave/cli/v3"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/visible"
	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/vitals"
)

const topHelp = `usage: ipcctl top [flags]

Shows what the servers of a domain do: calls and errors in a second, how long
the server takes for a call (half of them, and 99 of 100), the calls of the last
minute, and who waits for whom: ring full, server asleep, handler slow. Up and
down choose a server, whose methods and clients are shown below; q ends. Without
a terminal it prints the view once.

  ipcctl top
  ipcctl top -json | jq '.servers[] | {name, calls_per_second}'

Flags:
  -once            print the view once, over one interval
  -json            print the view once, as JSON
  -svg file        write a picture of the view, once
  -interval d      the time between two looks (default 1s)
  -looks n         print after so many looks, at least 2 (default 2)
  -domain name     the domain, a name or a path (default: as programs choose it)
  -h               print this
`

func (t *terminal) top() *cli.Command {
	return &cli.Command{
		Name:  "top",
		Usage: "show what the servers of a domain do",
		Flags: []cli.Flag{domainFlag(), &cli.BoolFlag{Name: "once"}, &cli.BoolFlag{Name: "json"},
			&cli.StringFlag{Name: "svg"}, &cli.IntFlag{Name: "looks", Value: 2},
			&cli.DurationFlag{Name: "interval", Value: time.Second}},
		CustomHelpTemplate: topHelp,
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return usagef("top takes no argument, and %s is one", c.Args().First())
			}
			if c.Duration("interval") < 10*time.Millisecond {
				return usagef("-interval %v: the least is 10ms", c.Duration("interval"))
			}
			if c.Int("looks") < 2 {
				return usagef("-looks %d: the least is 2", c.Int("looks"))
			}
			w := vitals.New(c.String("domain"))
			defer w.Close()
			if c.Bool("once") || c.Bool("json") || c.String("svg") != "" ||
				!isTerminal(t.in) || !isTerminal(t.out) {
				return t.topOnce(ctx, c, w)
			}
			return t.topLive(ctx, c.Duration("interval"), w)
		},
	}
}

// topOnce looks as often as it was told, and prints the last view.
func (t *terminal) topOnce(ctx context.Context, c *cli.Command, w *vitals.Watcher) error {
	v := w.Look(ctx)
	if v.Domain == "" {
		return errors.New(v.Trouble)
	}
	for range c.Int("looks") - 1 {
		select {
		case <-time.After(c.Duration("interval")):
		case <-ctx.Done():
			return ctx.Err()
		}
		v = w.Look(ctx)
	}
	switch {
	case c.Bool("json"):
		return json.NewEncoder(t.out).Encode(v)
	case c.String("svg") != "":
		return writeFile(ctx, c.String("svg"), picture(plainView(v)))
	}
	_, err := io.WriteString(t.out, plainView(v))
	return err
}

// plainView is a view without colours, with the methods and clients of all servers.
func plainView(v vitals.View) string {
	var b strings.Builder
	b.WriteString(strings.Join(serverLines(v.Servers), "\n") + "\n")
	for _, s := range v.Servers {
		if len(s.Methods) > 0 {
			b.WriteString("\n" + strings.Join(methodLines(s), "\n") + "\n")
		}
		if len(s.Processes) > 0 {
			b.WriteString("\n" + strings.Join(clientLines(s), "\n") + "\n")
		}
	}
	if v.Trouble != "" {
		b.WriteString("\n" + v.Trouble + "\n")
	}
	return b.String()
}

// serverLines are a heading and a line for each server.
func serverLines(servers []vitals.Server) (lines []string) {
	rows := [][]string{{"SERVER", "ROLE", "EPOCH", "PID", "CLIENTS", "IN FLIGHT", "CALLS/S",
		"ERRORS/S", "P50", "P99", "LAST MINUTE", "WAITING"}}
	for _, s := range servers {
		rows = append(rows, []string{s.Name, dash(s.Role), number(s.Epoch),
			number(uint64(s.PID)), fmt.Sprint(s.Clients), fmt.Sprint(s.InFlight), rate(s.Calls),
			rate(s.Errors), duration(s.P50), duration(s.P99), sparkline(s.History),
			dash(s.Waiting)})
	}
	return columns(rows)
}

// methodLines are a heading and a line for each method of a server.
func methodLines(s vitals.Server) []string {
	rows := [][]string{{"METHODS OF " + s.Name, "IN FLIGHT", "CALLS/S", "ERRORS/S", "P50", "P99"}}
	for _, m := range s.Methods {
		rows = append(rows, []string{m.Name, fmt.Sprint(m.InFlight), rate(m.Calls), rate(m.Errors),
			duration(m.P50), duration(m.P99)})
	}
	return columns(rows)
}

// clientLines are a heading and a line for each process of a client.
func clientLines(s vitals.Server) []string {
	rows := [][]string{{"CLIENTS OF " + s.Name, "CONNECTIONS", "IN FLIGHT", "SENDS/S", "GETS/S",
		"FULL RINGS/S", "WAITING"}}
	for _, p := range s.Processes {
		rows = append(rows, []string{"pid " + number(uint64(p.PID)), fmt.Sprint(p.Connections),
			fmt.Sprint(p.InFlight), rate(p.Received), rate(p.Sent), rate(p.FullRings),
			dash(p.Waiting)})
	}
	return columns(rows)
}

// columns aligns cells, by the width that a terminal gives them.
func columns(rows [][]string) (lines []string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			cell = visible.Line(cell)
			row[i] = cell
			widths[i] = max(widths[i], lipgloss.Width(cell))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-lipgloss.Width(cell)+2))
			}
		}
		lines = append(lines, b.String())
	}
	return lines
}

func rate(perSecond float64) string {
	switch {
	case perSecond == 0:
		return "-"
	case perSecond >= 1000:
		return fmt.Sprintf("%.0f", perSecond)
	}
	return fmt.Sprintf("%.3g", perSecond)
}

func duration(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return d.String()
}

// bars are the heights of a sparkline.
var bars = []rune("▁▂▃▄▅▆▇█")

// shownHistory is the width of a sparkline.
const shownHistory = 20

// sparkline draws the last values, the highest of which is the full height.
func sparkline(values []float64) string {
	if n := len(values); n > shownHistory { // the highest of each group stands for it
		group := (n + shownHistory - 1) / shownHistory
		var fewer []float64
		for i := 0; i < n; i += group {
			most := 0.0
			for _, v := range values[i:min(n, i+group)] {
				most = max(most, v)
			}
			fewer = append(fewer, most)
		}
		values = fewer
	}
	most := 0.0
	for _, v := range values {
		most = max(most, v)
	}
	line := []rune(strings.Repeat(" ", max(0, shownHistory-len(values))))
	for _, v := range values {
		height := 0
		if most > 0 {
			height = int(v / most * float64(len(bars)-1))
		}
		line = append(line, bars[height])
	}
	return string(line)
}

// topLive shows the view on a terminal until the user ends it.
func (t *terminal) topLive(ctx context.Context, interval time.Duration,
	w *vitals.Watcher) error {
	look := func() tea.Msg { return w.Look(ctx) }
	out := terminalOf(t.out)
	m := &liveTop{look: look, interval: interval, plain: os.Getenv("NO_COLOR") != ""}
	_, err := tea.NewProgram(m, tea.WithInput(t.in), tea.WithOutput(out), tea.WithContext(ctx),
		tea.WithoutSignalHandler()).Run()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// A liveTop is the state of the view on a terminal.
type liveTop struct {
	look          func() tea.Msg
	interval      time.Duration
	view          vitals.View
	chosen        string // the channel of the server whose methods are shown
	width, height int
	plain         bool // no line has a style, not even a bold one
}

// styled returns a line in a style.
func (m *liveTop) styled(s lipgloss.Style, line string) string {
	if m.plain {
		return line
	}
	return s.Render(line)
}

// lookAgain asks for the next look.
type lookAgain struct{}

func (m *liveTop) Init() tea.Cmd { return m.look }

func (m *liveTop) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case vitals.View:
		m.view = msg
		return m, tea.Tick(m.interval, func(time.Time) tea.Msg { return lookAgain{} })
	case lookAgain:
		return m, m.look
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		switch msg.String() {
		case "q", "esc", "ctrl+c":
			return m, tea.Quit
		case "up", "k":
			m.choose(-1)
		case "down", "j":
			m.choose(1)
		}
	}
	return m, nil
}

// choose chooses the server above or below.
func (m *liveTop) choose(by int) {
	if n := len(m.view.Servers); n > 0 {
		m.chosen = m.view.Servers[min(max(m.at()+by, 0), n-1)].Channel
	}
}

// at returns the place of the chosen server; the first one is chosen if that has gone.
func (m *liveTop) at() int {
	for i, s := range m.view.Servers {
		if s.Channel == m.chosen {
			return i
		}
	}
	return 0
}

// View implements tea.Model. The program knows which colours the terminal has, if any.
func (m *liveTop) View() tea.View {
	v := tea.NewView(m.text())
	v.AltScreen = true
	return v
}

func (m *liveTop) text() string {
	v := m.view
	var lines []string
	if v.Trouble != "" {
		red := lipgloss.NewStyle().Foreground(lipgloss.Color("1"))
		lines = append(lines, m.styled(red, visible.Line(v.Trouble)))
	}
	bold := lipgloss.NewStyle().Bold(true)
	heading := func(servers string) {
		lines = append(lines, m.styled(bold, fmt.Sprintf("%s   %s   %s   q ends",
			visible.Line(cmp.Or(v.Domain, "looking")), v.At.Format(time.TimeOnly), servers)), "")
	}
	if len(v.Servers) == 0 {
		heading("0 servers")
	} else {
		at := m.at()
		below := [][]string{methodLines(v.Servers[at]), clientLines(v.Servers[at])}
		first, end := m.window(len(lines) + 3 + len(below[0]) + len(below[1]) + len(below))
		if n := len(v.Servers); end-first < n {
			heading(fmt.Sprintf("servers %d to %d of %d", first+1, end, n))
		} else {
			heading(count(n, "server"))
		}
		for i, line := range serverLines(v.Servers) {
			line = m.cut(line)
			switch {
			case i == 0:
				line = m.styled(bold, line)
			case i <= first || i > end:
				continue
			case i == at+1:
				line = m.styled(lipgloss.NewStyle().Reverse(true), line)
			case v.Servers[i-1].Waiting != "":
				line = m.styled(lipgloss.NewStyle().Foreground(lipgloss.Color("3")), line)
			}
			lines = append(lines, line)
		}
		for _, part := range below {
			lines = append(lines, "")
			for i, line := range part {
				if line = m.cut(line); i == 0 {
					line = m.styled(bold, line)
				}
				lines = append(lines, line)
			}
		}
	}
	if m.height > 0 {
		lines = lines[:min(len(lines), m.height)]
	}
	return strings.Join(lines, "\n")
}

// window returns which servers are shown, from first up to end: all if there is room for them
// beside the other lines, and otherwise those around the chosen one, on half of the terminal at
// least.
func (m *liveTop) window(others int) (first, end int) {
	n := len(m.view.Servers)
	shown := max(m.height-others, m.height/2, 1)
	if m.height == 0 || n <= shown {
		return 0, n
	}
	first = min(max(m.at()-shown/2, 0), n-shown)
	return first, first + shown
}

// cut shortens a line to the width of the terminal.
func (m *liveTop) cut(line string) string {
	if runes := []rune(line); m.width > 0 && len(runes) > m.width {
		return string(runes[:m.width])
	}
	return line
}

// picture draws lines of text, as an SVG.
func picture(text string) []byte {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	widest := 0
	for _, l := range lines {
		widest = max(widest, lipgloss.Width(l))
	}
	const wide, high, around = 8, 18, 16
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" `+
		`font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="13">`+"\n",
		widest*wide+2*around, len(lines)*high+2*around)
	b.WriteString(`<rect width="100%" height="100%" rx="8" fill="#1b1f27"/>` + "\n")
	for i, l := range lines {
		colour := "#d6dbe4"
		if strings.HasPrefix(l, "SERVER ") || strings.HasPrefix(l, "METHODS OF ") ||
			strings.HasPrefix(l, "CLIENTS OF ") {
			colour = "#7fb4ff"
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s" xml:space="preserve" textLength="%d">`,
			around, around+high*i+13, colour, max(1, lipgloss.Width(l)*wide))
		_ = xml.EscapeText(&b, []byte(l)) // a Builder takes all
		b.WriteString("</text>\n")
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}
