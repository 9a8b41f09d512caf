package ipc

import (
	"runtime"
	"strings"
	"unsafe"
)

// makeBody returns an empty body with room for n bytes, which are not cleared: each of them is
// written before it is read. To clear 1 MiB that is not in a cache takes as long as to receive it.
func makeBody(n int) []byte {
	var b strings.Builder // the only way to such memory
	b.Grow(max(n, 1))
	b.WriteByte(0)
	return unsafe.Slice(unsafe.StringData(b.String()), max(n, 1))[:0:n]
}

// onceUnused calls f with the memory of body, which makeBody made, once nothing refers to it any
// more, inside or outside of this package. f must not refer to body.
func onceUnused(body []byte, f func(body []byte)) {
	n := cap(body)
	runtime.SetFinalizer(unsafe.SliceData(body), func(p *byte) { f(unsafe.Slice(p, n)[:0]) })
}
