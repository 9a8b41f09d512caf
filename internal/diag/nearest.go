package diag

// Nearest returns the candidate that a misspelt name most likely means, or ""
// when none is close. The distance is Levenshtein's; a third of the name may
// differ.
func Nearest(name string, candidates []string) string {
	const longest = 64 // bounds the work for names that nobody typed
	if len(name) > longest {
		return ""
	}
	best, distance := "", max((len(name)+1)/3, 1)+1
	for _, c := range candidates {
		if c == name || len(c) > longest || abs(len(c)-len(name)) >= distance {
			continue
		}
		if d := levenshtein(name, c); d < distance {
			best, distance = c, d
		}
	}
	return best
}

func abs(n int) int { return max(n, -n) }

// levenshtein counts the insertions, deletions and replacements of bytes that
// turn a into b.
func levenshtein(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			above := row[j+1]
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			row[j+1] = min(cost, above+1, row[j]+1)
			diagonal = above
		}
	}
	return row[len(b)]
}
