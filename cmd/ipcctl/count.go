package main

import "fmt"

// count says how many there are of something whose name takes an s.
func count[N int | uint32 | uint64 | int64](n N, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
