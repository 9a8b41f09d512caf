package diag

// Nearest returns the candidate closest to a misspelt name, or "" if no candidate is close. The
// distance is Levenshtein's, with the exchange of neighbouring letters as one change. At most a
// third of the name may differ.
func Nearest(name string, candidates []string) string {
	const longest = 64 // bounds the work for long generated names
	if len(name) > longest {
		return ""
	}
	best, distance := "", max((len(name)+1)/3, 1)+1
	for _, c := range candidates {
		if c == name || len(c) > longest || abs(len(c)-len(name)) > distance {
			continue
		}
		// Of two candidates at the same distance, the one of the same length is preferred: its
		// letters are in another order.
		d := levenshtein(name, c)
		if d < distance || d == distance && best != "" && len(c) == len(name) &&
			len(best) != len(name) {
			best, distance = c, d
		}
	}
	return best
}

func abs(n int) int { return max(n, -n) }

// levenshtein returns the number of insertions, deletions and replacements of bytes, and of
// exchanges of neighbours, that turn a into b.
func levenshtein(a, b string) int {
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next := make([]int, len(b)+1)
		next[0] = i + 1
		for j := range len(b) {
			cost := row[j]
			if a[i] != b[j] {
				cost++
			}
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				cost = min(cost, before[j-1]+1)
			}
			next[j+1] = min(cost, row[j+1]+1, next[j]+1)
		}
		before, row = row, next
	}
	return row[len(b)]
}
