package natsipc

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
)

// A said logs what goes wrong and why once, however often the reason comes in a row.
type said struct{ last sync.Map } // from what to why

// log logs what, with more about it, unless its last reason was the same.
func (s *said) log(l *slog.Logger, level slog.Level, what string, why error, more ...any) {
	text := fmt.Sprint(why)
	if last, _ := s.last.Swap(what, text); last != text {
		l.Log(context.Background(), level, what, append(more, "why", why)...)
	}
}

// over says that what has ended: when it begins again, the same reason is logged again.
func (s *said) over(what string) { s.last.Delete(what) }
