package checkup

import "testing"

func TestCleaner(t *testing.T) {
	reaper := func(path string) bool { return path == "/etc/cron.daily/tmpreaper" }
	none := func(string) bool { return false }
	for _, c := range []struct {
		domain string
		exists func(string) bool
		want   string
	}{{"/tmp/ipcgen", reaper, "tmpreaper"}, {"/tmp/ipcgen", none, ""},
		{"/run/user/1/ipcgen", reaper, ""}} {
		if got := cleaner(c.domain, c.exists); got != c.want {
			t.Errorf("%s: %q, want %q", c.domain, got, c.want)
		}
	}
}
