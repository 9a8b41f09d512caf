// Package sys is the project's only door to the kernel beyond what package os
// offers. Every function exists on every platform; where the platform lacks
// what it needs, it returns an error that wraps errors.ErrUnsupported, so that
// the packages above need no build tags.
package sys
