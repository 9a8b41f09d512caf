package load

import "fmt"

// Short writes a number of nanoseconds with three digits.
func Short(ns float64) string {
	units := []string{"ns", "µs", "ms", "s"}
	i := 0
	for ns >= 999.5 && i < len(units)-1 {
		ns /= 1000
		i++
	}
	switch {
	case ns < 9.995 && ns != float64(int(ns)):
		return fmt.Sprintf("%.2f %s", ns, units[i])
	case ns < 99.95 && ns != float64(int(ns)):
		return fmt.Sprintf("%.1f %s", ns, units[i])
	}
	return fmt.Sprintf("%.0f %s", ns, units[i])
}
