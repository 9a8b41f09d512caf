package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// needBrowser, if it is set, makes the absence of a browser a failure.
const needBrowser = "IPCCTL_NEED_BROWSER"

// browse starts a browser with an empty profile, and returns the context of a window. The test is
// skipped if the machine has none.
func browse(t *testing.T, width, height int) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		if os.Getenv(needBrowser) != "" {
			t.Fatal("there is no chromium in PATH, and " + needBrowser + " is set")
		}
		t.Skip("there is no chromium in PATH")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path),
		chromedp.WindowSize(width, height), chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-gpu", true), chromedp.WSURLReadTimeout(2*time.Minute))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // which it needs as root
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	ctx, end := chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(end)
	ctx, closeWindow := chromedp.NewContext(ctx)
	t.Cleanup(closeWindow)
	return ctx
}

// do runs actions in the browser.
func do(ctx context.Context, t *testing.T, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

// evaluate returns the value of an expression of JavaScript.
func evaluate[T any](ctx context.Context, t *testing.T, expression string) T {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// awaitText waits until the elements of a selector have a text.
func awaitText(ctx context.Context, t *testing.T, selector, text string) {
	t.Helper()
	texts := fmt.Sprintf(`[...document.querySelectorAll(%q)].map(e => e.innerText).join("\n")`,
		selector)
	for before := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		got := evaluate[string](ctx, t, texts)
		if strings.Contains(got, text) {
			return
		}
		if time.Since(before) > time.Minute {
			screenshot(ctx, t, "failed")
			t.Fatalf("%s has %q, and not %q", selector, got, text)
		}
	}
}

// servePage runs ipcctl web, and returns the address that it prints.
func servePage(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out := &lineWriter{more: make(chan bool, 1)}
	errOut := &lineWriter{more: make(chan bool, 1)}
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, append([]string{"ipcctl", "web"}, args...), strings.NewReader(""), out,
			errOut)
	}()
	t.Cleanup(func() {
		cancel()
		if got := <-code; got != exitInterrupted || errOut.text != "" {
			t.Errorf("web ended with status %d, and said %q", got, errOut.text)
		}
	})
	out.await(t, "\n")
	return strings.TrimSpace(out.text)
}

// screenshot writes a screenshot into the folder that IPCCTL_PICTURES names, for people to look at.
func screenshot(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	dir := os.Getenv("IPCCTL_PICTURES")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/"+name+".png", png, 0o666); err != nil {
		t.Fatal(err)
	}
}

// TestBrowserFailover watches a failover in a browser: the primary of a group is killed, the
// standby takes over, and a new standby comes.
func TestBrowserFailover(t *testing.T) {
	ctx := browse(t, 1500, 950)
	newDomain(t)
	serve(t, "group")
	serve(t, "greeter")
	start(t, strings.NewReader(""), "bench", "-duration", "1h", "-rate", "300", "audio_compute",
		"GetParam", "{}")
	do(ctx, t, chromedp.Navigate(servePage(t)))
	awaitText(ctx, t, ".replica.primary", "audio_compute.0")
	awaitText(ctx, t, ".replica.standby", "audio_compute.1")
	awaitText(ctx, t, "#servers tbody", "greeter")
	pid := evaluate[int](ctx, t, `+document.querySelector(".replica.primary .facts").
		innerText.match(/pid (\d+)/)[1]`)
	p, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	awaitText(ctx, t, ".replica.primary", "audio_compute.1")
	awaitText(ctx, t, ".replica.standby", "audio_compute.0")
	awaitText(ctx, t, "#events .lost", "the primary, has ended")
	awaitText(ctx, t, "#events .promoted", "is the primary, in epoch 2")
	awaitText(ctx, t, "#events .came", "a standby")
	screenshot(ctx, t, "failover")
}

// set sets the value of a control, as a person would type it.
func set(ctx context.Context, t *testing.T, selector, value string) {
	t.Helper()
	evaluate[bool](ctx, t, fmt.Sprintf(`(() => {
		const e = document.querySelector(%q);
		e.value = %q;
		return e.dispatchEvent(new Event(e.tagName === "SELECT" ? "change" : "input", {bubbles: true}));
	})()`, selector, value))
}

// press clicks on an element.
func press(ctx context.Context, t *testing.T, selector string) {
	t.Helper()
	evaluate[bool](ctx, t, fmt.Sprintf(`document.querySelector(%q).click(), true`, selector))
}

// TestBrowserCalls fills in forms and sees what comes back.
func TestBrowserCalls(t *testing.T) {
	ctx := browse(t, 1500, 950)
	newDomain(t)
	serve(t, "audio", "0")
	do(ctx, t, chromedp.Navigate(servePage(t)))
	awaitText(ctx, t, "#servers tbody", "audio_compute.0")
	press(ctx, t, "#servers tbody button")
	awaitText(ctx, t, "#detail .choices", "SetParam")
	press(ctx, t, `[data-item="method audio.AudioControl.SetParam"]`)
	awaitText(ctx, t, ".panel h3", "audio.AudioControl.SetParam")
	screenshot(ctx, t, "form")
	set(ctx, t, `[data-path=param_id] select`, "Pan")
	set(ctx, t, `[data-path=value] input`, "-0.5")
	press(ctx, t, ".panel button.main")
	awaitText(ctx, t, ".result", `"status": "Ok"`)
	screenshot(ctx, t, "call")
}

// TestBrowserOrders gives orders to a group and to a server, and gives none without a confirmation.
func TestBrowserOrders(t *testing.T) {
	ctx := browse(t, 1500, 950)
	newDomain(t)
	serve(t, "group")
	server := serve(t, "orderly")
	do(ctx, t, chromedp.Navigate(servePage(t)))
	awaitText(ctx, t, ".replica.primary", "audio_compute.0")
	press(ctx, t, ".group .orders button")
	awaitText(ctx, t, "#order-question", "Replace the primary audio_compute.0 (pid ")
	screenshot(ctx, t, "order")
	press(ctx, t, "#order button[value=no]")
	press(ctx, t, ".group .orders button")
	awaitText(ctx, t, "#order-question", "epoch 1?")
	press(ctx, t, "#order button[value=yes]")
	awaitText(ctx, t, "#order .log", "is the primary, in epoch 2")
	awaitText(ctx, t, "#order .done", "Done.")
	press(ctx, t, "#order button[value=no]")
	awaitText(ctx, t, ".replica.primary", "audio_compute.1")

	// The process that was shown is another one when the answer comes.
	press(ctx, t, ".group .orders button")
	awaitText(ctx, t, "#order-question", "epoch 2?")
	awaitHealthy(t, "audio_compute")
	expect(t, 0, "PRIMARY  3", "", "", "failover", "-yes", "audio_compute")
	press(ctx, t, "#order button[value=yes]")
	awaitText(ctx, t, "#order .fault", "nothing was done")
	press(ctx, t, "#order button[value=no]")

	awaitText(ctx, t, "#servers", "orderly")
	evaluate[bool](ctx, t, `[...document.querySelectorAll("#servers tbody button")].
		find(b => b.textContent === "orderly").click(), true`)
	awaitText(ctx, t, "#detail .orders", "Drain")
	press(ctx, t, "#detail .orders button")
	awaitText(ctx, t, "#order-question", "Tell orderly (pid ")
	press(ctx, t, "#order button[value=yes]")
	awaitText(ctx, t, "#order .done", "Done.")
	if _, err := server.Wait(); err != nil {
		t.Fatal(err)
	}
}
