package sys

import (
	"runtime"
	"runtime/debug"
)

// IsFault reports whether p, what recover returned under debug.SetPanicOnFault, is an access
// to memory that is not there: to a mapped file that somebody has cut short.
func IsFault(p any) bool {
	_, fault := p.(interface {
		runtime.Error
		Addr() uintptr
	})
	return fault
}

// CatchFault makes nothing of a fault: the access that caused it and what should have followed
// it in the function do not happen. It is deferred with the result of
// debug.SetPanicOnFault(true).
func CatchFault(old bool) {
	debug.SetPanicOnFault(old)
	if p := recover(); p != nil && !IsFault(p) {
		panic(p)
	}
}
