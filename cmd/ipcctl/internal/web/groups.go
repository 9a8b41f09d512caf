package web

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/ipcgen/ipcgen/cmd/ipcctl/internal/survey"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// A Group is a group as its supervisor sees it.
type Group struct {
	Name        string    `json:"name"`
	Supervisor  int       `json:"supervisor,omitempty"` // the pid
	Epoch       uint64    `json:"epoch"`
	Primary     string    `json:"primary,omitempty"`
	Degraded    bool      `json:"degraded"`
	Replicates  bool      `json:"replicates"`
	Quarantined int       `json:"quarantined"`
	Replicas    []Replica `json:"replicas"`
	Trouble     string    `json:"trouble,omitempty"` // why the supervisor does not tell
}

// A Replica is a replica of a Group.
type Replica struct {
	Name     string `json:"name"`
	PID      int    `json:"pid,omitempty"` // 0 without a process
	Ready    bool   `json:"ready"`
	Role     string `json:"role"`
	Epoch    uint64 `json:"epoch,omitempty"`
	InSync   bool   `json:"in_sync"`
	Restarts int    `json:"restarts"`
	Error    string `json:"error,omitempty"`
}

// supervisors are connections to those of the groups of a domain. They are for one goroutine.
type supervisors map[string]*group.Operator

// ask asks all supervisors at the same time. A group whose replicas are all dead is still listed
// for as long as its supervisor answers.
func (s supervisors) ask(ctx context.Context, sv *survey.Survey) (all []Group) {
	names := sv.Groups()
	for name := range s {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	all = make([]Group, len(names))
	dialed := make([]*group.Operator, len(names))
	var asked sync.WaitGroup
	for i, name := range names {
		known := s[name]
		asked.Go(func() { all[i], dialed[i] = askSupervisor(ctx, sv, name, known) })
	}
	asked.Wait()
	for i, name := range names {
		if delete(s, name); dialed[i] != nil {
			s[name] = dialed[i]
		}
	}
	all = slices.DeleteFunc(all, func(g Group) bool {
		return s[g.Name] == nil && !slices.Contains(sv.Groups(), g.Name)
	})
	slices.SortFunc(all, func(a, b Group) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// askSupervisor asks one supervisor, and returns the connection if it is of use.
func askSupervisor(ctx context.Context, sv *survey.Survey, name string, o *group.Operator) (Group,
	*group.Operator) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var err error
	if o == nil {
		if o, err = group.DialSupervisor(ctx, name, sv.Domain); err != nil {
			return unsupervised(sv, name, "no supervisor: "+err.Error()), nil
		}
	}
	status, err := o.Status(ctx)
	if err != nil {
		o.Close()
		return unsupervised(sv, name, err.Error()), nil
	}
	g := Group{Name: name, Supervisor: o.Supervisor(), Epoch: status.Epoch,
		Degraded: status.Degraded, Replicates: status.Replicates, Quarantined: status.Quarantined}
	for _, r := range status.Replicas {
		one := Replica{Name: r.Name, PID: r.PID, Ready: r.Ready, Role: r.Role.String(),
			Epoch: r.Epoch, InSync: r.InSync, Restarts: r.Restarts}
		if r.Err != nil {
			one.Error = r.Err.Error()
		}
		if r.Index == status.Primary {
			g.Primary = r.Name
		}
		g.Replicas = append(g.Replicas, one)
	}
	return g, o
}

// unsupervised is a group as the registry alone shows it.
func unsupervised(sv *survey.Survey, name, trouble string) Group {
	g := Group{Name: name, Trouble: trouble}
	for _, r := range sv.Instances {
		if survey.GroupOf(r.Name) != name {
			continue
		}
		one := Replica{Name: r.Name, PID: r.PID, Ready: true, Role: r.Role.String(),
			Epoch: r.Epoch}
		if r.Role == registry.RolePrimary {
			g.Primary, g.Epoch = r.Name, r.Epoch
		}
		g.Replicas = append(g.Replicas, one)
	}
	return g
}

// close ends the connections.
func (s supervisors) close() {
	for _, o := range s {
		o.Close()
	}
}
