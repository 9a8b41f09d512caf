// Package systest makes system calls fail in the processes that tests start, by the filters with
// which sandboxes forbid system calls.
package systest
