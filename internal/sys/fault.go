package sys

import (
	"runtime"
	"runtime/debug"
)

// IsFault reports whether p, a result of recover under debug.SetPanicOnFault, is a fault: an access
// to memory that does not exist, such as that of a mapped file that was cut short.
func IsFault(p any) bool {
	_, fault := p.(interface {
		runtime.Error
		Addr() uintptr
	})
	return fault
}

// CatchFault ignores a fault: the access that caused the fault, and the rest of the function, do
// not happen. It is deferred with the result of debug.SetPanicOnFault(true).
func CatchFault(old bool) {
	debug.SetPanicOnFault(old)
	if p := recover(); p != nil && !IsFault(p) {
		panic(p)
	}
}
