package shm

// ownLine asks the processor to fetch the cache line of p, to write in it, and waits for nothing.
// It has no effect on what anybody reads, and no address is wrong.
//
//go:noescape
func ownLine(p *byte)
