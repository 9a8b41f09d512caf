package fb

import "unsafe"

// onStack returns v, and hides from the compiler that it does. A Verifier is
// passed to functions that the compiler cannot see, which may keep it, as far as
// it knows; so it would put each on the heap, and the buffer too. Verifiers keep
// none.
//
// The caller must go on using its own v afterwards, as VerifyRoot does, so that
// the variable lives until then. The result is an ordinary pointer, which follows
// the variable when the stack moves; this must not be inlined, lest it be taken
// for the integer that it is in between.
//
//go:noinline
func onStack(v *Verifier) *Verifier {
	p := uintptr(unsafe.Pointer(v))
	return *(**Verifier)(unsafe.Pointer(&p))
}
