//go:build !race && !ipcinterleave

package shm

// copyIn copies a message to memory from which others may copy meanwhile; these notice.
func copyIn(mem, message []byte) { copy(mem, message) }

// copyOut copies a message from memory that its writer may use again meanwhile; the caller notices.
func copyOut(message, mem []byte) { copy(message, mem) }

// fillIn lets fill write the first n bytes of mem.
func fillIn(mem []byte, n int, fill func([]byte) error) error { return fill(mem[:n:n]) }
