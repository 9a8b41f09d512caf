//go:build race || ipcinterleave

package shm

import "encoding/binary"

// The race detector, and the explorer of interleavings, accept only atomic accesses to memory that
// is written while others read it. Both know the memory of this process alone.

// copyIn copies a message to memory from which others may copy meanwhile; these notice. mem goes on
// to a multiple of 8.
func copyIn(mem, message []byte) {
	var last [8]byte
	for at := 0; at < len(message); at += 8 {
		v := message[at:]
		if len(v) < 8 {
			copy(last[:], v)
			v = last[:]
		}
		word(mem, uint64(at)).Store(binary.NativeEndian.Uint64(v))
	}
}

// copyOut copies a message from memory that its writer may use again meanwhile; the caller notices.
func copyOut(message, mem []byte) {
	var last [8]byte
	for at := 0; at < len(message); at += 8 {
		binary.NativeEndian.PutUint64(last[:], word(mem, uint64(at)).Load())
		copy(message[at:], last[:])
	}
}

// fillIn lets fill write the first n bytes of mem.
func fillIn(mem []byte, n int, fill func([]byte) error) error {
	message := make([]byte, n)
	if err := fill(message); err != nil {
		return err
	}
	copyIn(mem, message)
	return nil
}
