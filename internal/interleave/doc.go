// Package interleave checks code that goroutines run concurrently, by running that very code
// in every order of its accesses to shared words.
//
// The code declares its shared words with the types of this package. In an ordinary build
// they are those of sync/atomic and sync, by alias, and the functions are empty: nothing is
// left of the package in the program. In a build with the tag ipcinterleave each access is a
// place where the explorer may let another goroutine go on, see Explore.
package interleave
