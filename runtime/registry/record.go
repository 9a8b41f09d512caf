package registry

import (
	"fmt"
	"strings"
	"time"

	"github.com/ipcgen/ipcgen/internal/domain"
)

// Limits of the fields of a [Record], in bytes. Longer values are refused, never cut.
const (
	MaxNameLen     = domain.MaxNameLen
	MaxProtocolLen = 127
)

// maxEpoch is the largest epoch that a record can hold.
const maxEpoch = 1<<56 - 1

// A Role is the function of an instance in its group.
type Role uint8

// The roles. An instance that no group supervises has RoleNone.
const (
	RoleNone Role = iota
	RoleStandby
	RolePrimary
)

// String returns "NONE", "STANDBY" or "PRIMARY".
func (r Role) String() string {
	switch r {
	case RoleNone:
		return "NONE"
	case RoleStandby:
		return "STANDBY"
	case RolePrimary:
		return "PRIMARY"
	}
	return fmt.Sprintf("Role(%d)", uint8(r))
}

// A Record describes a live service instance. Records are copies: the registry does not keep the
// Record that a caller passes in or gets.
type Record struct {
	// Name is unique among the live instances of the domain, such as "audio_compute.0". Dots
	// separate its components.
	Name string
	// Service is the name that all instances of a service share. It may be empty.
	Service string
	// Control and Reply name the instance's channels. They may be empty.
	Control, Reply string
	// Protocol and Fingerprint identify the schema that the instance serves.
	Protocol    string
	Fingerprint uint64
	// PID is the process id in the pid namespace of the instance. It is information for people, not
	// evidence that the process lives.
	PID int
	// StartTime is the time of the registration.
	StartTime time.Time
	// Incarnation distinguishes one start of an instance by a supervisor from another. It is 0 for
	// an instance that no supervisor has started.
	Incarnation uint64
	// Role and Epoch change together, by [Registration.SetRole].
	Role  Role
	Epoch uint64
}

func (r *Record) check() error {
	if err := domain.CheckName("instance", r.Name); err != nil {
		return err
	}
	for _, f := range []struct{ kind, name string }{
		{"service", r.Service}, {"control channel", r.Control}, {"reply channel", r.Reply},
	} {
		if f.name == "" {
			continue
		}
		if err := domain.CheckName(f.kind, f.name); err != nil {
			return err
		}
	}
	if len(r.Protocol) > MaxProtocolLen {
		return fmt.Errorf("%w: the protocol name has %d bytes, at most %d are allowed",
			domain.ErrName, len(r.Protocol), MaxProtocolLen)
	}
	return checkRole(r.Role, r.Epoch)
}

func checkRole(role Role, epoch uint64) error {
	if role > RolePrimary {
		return fmt.Errorf("%v is no role", role)
	}
	if epoch > maxEpoch {
		return fmt.Errorf("epoch %d is beyond %d", epoch, uint64(maxEpoch))
	}
	return nil
}

// hasPrefix reports whether name begins with the components of prefix: "audio" covers "audio" and
// "audio.0", but not "audio2.0".
func hasPrefix(name, prefix string) bool {
	rest, ok := strings.CutPrefix(name, prefix)
	return ok && (prefix == "" || rest == "" || rest[0] == '.')
}
