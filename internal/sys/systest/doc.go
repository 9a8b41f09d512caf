// Package systest starts processes for tests in surroundings that are rare: under the filters with
// which sandboxes forbid system calls, and in a time namespace. It also finds the descriptors that
// a test binary leaves open.
package systest
