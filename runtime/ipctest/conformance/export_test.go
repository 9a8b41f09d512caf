package conformance

import "time"

// SetPatience changes how long a check may take.
func SetPatience(d time.Duration) { patience = d }

// Names returns the names of all checks.
func Names() (names []string) {
	for _, b := range behaviours {
		names = append(names, b.name)
	}
	for _, a := range abilities {
		names = append(names, "without "+a.name)
	}
	return names
}
