package group

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/ipcgen/ipcgen/internal/sys"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// adoptAll takes over the replicas that an earlier supervisor left, with the
// reign of their primary. It runs before anything else does.
func (s *supervisor) adoptAll() {
	recs, err := s.reg.List(s.cfg.Service)
	if err != nil {
		s.shutdown(err)
		return
	}
	for _, rec := range recs {
		if !s.cfg.Survive || rec.Service != s.cfg.Service || rec.Incarnation == 0 {
			continue
		}
		index, ok := indexOf(s.cfg.Service, rec.Name)
		if !ok || index >= len(s.replicas) {
			s.evict(rec)
			continue
		}
		if err := s.adopt(s.replicas[index], rec); err != nil {
			s.shutdown(err)
			return
		}
		s.settled = true // it is no fresh group
	}
	primary := s.reign.primary
	if primary == none || primary >= len(s.replicas) || s.replicas[primary].proc == nil {
		s.bequeath()
		primary = none
	}
	s.rule(s.reign.epoch, primary)
}

// adopt makes a process that others started a replica's. Its record, which the
// registry's watch brings, makes it ready.
func (s *supervisor) adopt(r *replica, rec registry.Record) error {
	pidfd, err := s.hold(rec)
	if err != nil || pidfd == nil {
		return err
	}
	path, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", rec.PID))
	r.state, r.incarnation = starting, rec.Incarnation
	p := &process{path: path, pidfd: pidfd, pid: rec.PID, flush: func() {}}
	s.report(Event{Kind: Adopted, Instance: r.name, PID: p.pid})
	s.attend(r, p)
	s.expectReady(r, p)
	return nil
}

// hold returns a pidfd for the process of a record, or nil when it is gone. The
// pid of a record is no evidence, but whoever held the registration after the
// pidfd was opened was the process it stands for.
func (s *supervisor) hold(rec registry.Record) (*os.File, error) {
	pidfd, err := sys.OpenProcess(rec.PID)
	if err != nil {
		if _, lookupErr := s.reg.Lookup(rec.Name); errors.Is(lookupErr, registry.ErrNotFound) {
			return nil, nil
		}
		return nil, fmt.Errorf("adopt %s (pid %d): %w", rec.Name, rec.PID, err)
	}
	now, err := s.reg.Lookup(rec.Name)
	if err != nil || now.Incarnation != rec.Incarnation {
		pidfd.Close()
		return nil, nil
	}
	return pidfd, nil
}

// evict kills a process of an earlier supervisor for which there is no place.
func (s *supervisor) evict(rec registry.Record) {
	pidfd, err := s.hold(rec)
	if err == nil && pidfd != nil {
		err = sys.SignalProcess(pidfd, sys.SIGKILL)
		pidfd.Close()
		s.report(Event{Kind: Evicted, Instance: rec.Name, PID: rec.PID, Cause: "left by an earlier supervisor", Err: err})
	}
}

func indexOf(service, name string) (int, bool) {
	digits, ok := strings.CutPrefix(name, service+".")
	if !ok {
		return 0, false
	}
	index, err := strconv.Atoi(digits)
	return index, err == nil && index >= 0 && name == instanceName(service, index)
}
