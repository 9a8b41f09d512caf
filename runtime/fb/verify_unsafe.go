package fb

import "unsafe"

// onStack returns v, and hides from the compiler that the result is v. A Verifier is passed to
// functions that the compiler cannot analyse. For all that the compiler knows they may keep it, so
// the compiler would put each Verifier, and the buffer, on the heap. In fact no function keeps one.
//
// The caller must go on using its own v afterwards, as [VerifyRoot] does, so that the variable
// lives until then. The result is an ordinary pointer, which follows the variable when the stack
// moves. onStack must not be inlined: the compiler could then see only the integer that the pointer
// is in between.
//
//go:noinline
func onStack(v *Verifier) *Verifier {
	p := uintptr(unsafe.Pointer(v))
	return *(**Verifier)(unsafe.Pointer(&p))
}
