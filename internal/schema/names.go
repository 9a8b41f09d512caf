package schema

import "strings"

// qualify returns the full name of name in the namespace.
func (n Namespace) qualify(name string) string {
	if len(n) == 0 {
		return name
	}
	return strings.Join(n, ".") + "." + name
}

// String returns the namespace with dots; the root namespace is empty.
func (n Namespace) String() string { return strings.Join(n, ".") }

// FullName returns the object's name with its namespace.
func (o *Object) FullName() string { return o.Namespace.qualify(o.Name) }

// FullName returns the enum's name with its namespace.
func (e *Enum) FullName() string { return e.Namespace.qualify(e.Name) }

// FullName returns the service's name with its namespace.
func (s *Service) FullName() string { return s.Namespace.qualify(s.Name) }
