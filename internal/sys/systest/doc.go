// Package systest makes system calls fail for real, in processes that tests start:
// by the filters with which sandboxes forbid them.
package systest
