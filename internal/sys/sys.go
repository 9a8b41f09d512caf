// Package sys is the part of the operating system that the packages above need: locks, mappings,
// memory and its limits, sockets, processes, clocks, wake-ups, and waits that a standstill of the
// process does not end. Every function exists on every platform. On a platform that lacks the
// feature, a function returns an error that wraps errors.ErrUnsupported, or a value that means that
// nothing is known, so the packages above need no build tags.
package sys
