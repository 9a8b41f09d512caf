package web

import (
	"context"
	"net/http"
	"time"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/orders"
)

// A kind is a kind of orders.
type kind struct {
	prepare func(ctx context.Context, domain, name string) (*orders.Order, error)
	limit   time.Duration // how long it may take
}

var kinds = map[string]kind{
	"failover": {orders.Failover, time.Minute},
	"roll":     {orders.Roll, 5 * time.Minute},
	"drain":    {orders.Drain, time.Minute},
}

// prepared prepares an order, or refuses the request. The order must be closed.
func (a *api) prepared(w http.ResponseWriter, r *http.Request, what, name string) *orders.Order {
	k, ok := kinds[what]
	if !ok {
		refuse(w, http.StatusNotFound, "there is no order %q", what)
		return nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), dialPatience)
	defer cancel()
	o, err := k.prepare(ctx, a.domain, name)
	if err != nil {
		refuse(w, http.StatusConflict, "%v", err)
		return nil
	}
	return o
}

// question answers with what an order would do. Nothing happens yet.
func (a *api) question(w http.ResponseWriter, r *http.Request) {
	var req struct{ What, Name string }
	if !accept(w, r, &req) {
		return
	}
	o := a.prepared(w, r, req.What, req.Name)
	if o == nil {
		return
	}
	defer o.Close()
	answer(w, http.StatusOK, struct {
		Question string `json:"question"`
		Burden   string `json:"burden,omitempty"`
		Mark     string `json:"mark"`
	}{o.Question, o.Burden, o.Mark})
}

// carry gives an order, if it still means what the page has shown.
func (a *api) carry(w http.ResponseWriter, r *http.Request) {
	var req struct{ What, Name, Mark string }
	if !accept(w, r, &req) {
		return
	}
	o := a.prepared(w, r, req.What, req.Name)
	if o == nil {
		return
	}
	defer o.Close()
	if o.Mark != req.Mark {
		refuse(w, http.StatusConflict, "nothing was done: it is another process or epoch by now")
		return
	}
	out := newLines(w)
	err := o.CarryOut(r.Context(), kinds[req.What].limit, func(text string) {
		_ = out.write(line{Note: text}) // the order stands if the page has gone
	})
	if err == nil && o.Ended != "" {
		out.write(line{Note: o.Ended + " has ended"})
	}
	out.write(ended(err))
}
