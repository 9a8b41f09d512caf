package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
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
		chromedp.Flag("disable-gpu", true), chromedp.WSURLReadTimeout(tooLong))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // which it needs as root
	}
	ctx, cancel := context.WithTimeout(t.Context(), tooLong)
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

// awaitText waits until the elements of a selector have a text. The page may load meanwhile.
func awaitText(ctx context.Context, t *testing.T, selector, text string) {
	t.Helper()
	texts := chromedp.Evaluate[string](fmt.Sprintf(
		`[...document.querySelectorAll(%q)].map(e => e.innerText).join("\n")`, selector))
	for before := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		got, err := chromedp.Run(ctx, texts)
		if strings.Contains(got, text) {
			return
		}
		if ctx.Err() != nil || time.Since(before) > tooLong {
			screenshot(ctx, t, "failed")
			t.Fatalf("%s has %q, and not %q: %v", selector, got, text, err)
		}
	}
}

// servePage runs ipcctl web, and returns the address that it prints.
func servePage(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out := newLineWriter()
	errOut := newLineWriter()
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

// choose chooses a server by its name.
func choose(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	awaitText(ctx, t, "#servers tbody", name)
	evaluate[bool](ctx, t, fmt.Sprintf(`[...document.querySelectorAll("#servers tbody button")].
		find(b => b.textContent === %q).click(), true`, name))
	awaitText(ctx, t, "#detail h2", name)
	awaitText(ctx, t, ".panel h3", ".")
}

// TestBrowserForm fills in each kind of field, and compares what the server got. The schema's
// comments, the request and the error have markup, which stays text.
func TestBrowserForm(t *testing.T) {
	ctx := browse(t, 1500, 950)
	newDomain(t)
	serve(t, "everything")
	do(ctx, t, chromedp.Navigate(servePage(t)))
	choose(ctx, t, "everything")
	awaitText(ctx, t, ".panel h3", "every.Echo.Tell")
	awaitText(ctx, t, ".panel .doc", `<img src=x onerror="document.title = 'taken'">`)
	awaitText(ctx, t, "[data-path=text] .help", `<script>document.title = "taken"</script>`)

	at := func(path string) string { return fmt.Sprintf("[data-path=%q] ", path) }
	add := func(path string) {
		t.Helper()
		evaluate[bool](ctx, t, fmt.Sprintf(`[...document.querySelectorAll(%q)].
			findLast(b => b.textContent === "Add").click(), true`, at(path)+"button"))
	}
	set(ctx, t, at("text")+"input", `"><script>document.title = "taken"</script>`)
	press(ctx, t, at("on")+"input")
	set(ctx, t, at("big")+"input", "18446744073709551615")
	set(ctx, t, at("ratio")+"input", "1e-3")
	set(ctx, t, at("maybe")+"input", "-7")
	set(ctx, t, at("maybe_on")+"select", "false")
	set(ctx, t, at("colour")+"select", "Blue")
	press(ctx, t, at("marks")+"input[value=Bold]")
	press(ctx, t, at("marks")+"input[value=Struck]")
	add("where")
	set(ctx, t, at("where.x")+"input", "1.5")
	add("grid")
	set(ctx, t, at("grid.cells[1]")+"input", "-2")
	set(ctx, t, at("grid.at.y")+"input", "4")
	add("leaf")
	set(ctx, t, at("leaf.name")+"input", "oak")
	set(ctx, t, at("any")+"select", "Note")
	set(ctx, t, at("any.text")+"input", "one of them")
	add("many")
	add("many")
	set(ctx, t, `[data-path=many] .line:nth-child(2) select`, "Point")
	set(ctx, t, at("many[1].x")+"input", "3")
	add("names")
	add("names")
	set(ctx, t, at("names[0]")+"input", "first")
	set(ctx, t, at("names[1]")+"input", "second")
	add("leaves")
	set(ctx, t, at("leaves[0].count")+"input", "9007199254740993")
	add("points")
	set(ctx, t, at("raw")+"textarea", "hi")
	add("nested")
	set(ctx, t, at("nested.name")+"input", "within")
	set(ctx, t, at("flex")+"textarea", `{"any": [1, "two"]}`)
	set(ctx, t, at("hashed")+"input", "a name")
	set(ctx, t, at("__proto__")+"input", "a field like others")
	screenshot(ctx, t, "everything")
	press(ctx, t, ".panel button.main")
	awaitText(ctx, t, ".result .ok", "OK")
	got := evaluate[string](ctx, t, `JSON.parse(document.querySelector(".reply").textContent).text`)
	const want = `{"text":"\"><script>document.title = \"taken\"</script>","on":false,` +
		`"big":18446744073709551615,"ratio":0.001,"maybe":-7,"maybe_on":false,"colour":"Blue",` +
		`"marks":"Bold Struck","where":{"x":1.5,"y":0},` +
		`"grid":{"cells":[0,-2],"at":{"x":0,"y":4}},"leaf":{"name":"oak"},` +
		`"any_type":"Note","any":{"text":"one of them"},"many_type":["Leaf","Point"],` +
		`"many":[{},{"x":3,"y":0}],"names":["first","second"],` +
		`"leaves":[{"count":9007199254740993}],"points":[{"x":0,"y":0}],"raw":[104,105],` +
		`"nested":{"name":"within"},"flex":{"any":[1,"two"]},"hashed":3024756735,` +
		`"__proto__":"a field like others"}`
	if got != want {
		t.Errorf("the server got\n%s\nand not\n%s", got, want)
	}

	// What is typed as JSON is in the form, and what is wrong is told at its field.
	set(ctx, t, ".raw textarea", `{"text": "typed", "big": 18446744073709551614,
		"leaves": [{"name": "ash"}, {"count": -1}]}`)
	if v := evaluate[string](ctx, t, `document.querySelector("[data-path=big] input").value`); v !=
		"18446744073709551614" {
		t.Errorf("the field has %s", v)
	}
	awaitText(ctx, t, at("leaves[1].count")+".fault", "-1")
	press(ctx, t, at("leaves[1]")+`button[aria-label="Remove element 2"]`)
	press(ctx, t, ".panel button.main")
	awaitText(ctx, t, ".result .reply", "ash")

	// What only flatc takes for JSON is sent as it is.
	set(ctx, t, ".raw textarea", `{text: "bare", /* a comment */ colour: Blue,}`)
	awaitText(ctx, t, ".raw .help", "The form follows when this is JSON.")
	press(ctx, t, ".panel button.main")
	awaitText(ctx, t, ".result .reply", "bare")

	press(ctx, t, `[data-item="method every.Echo.Fail"]`)
	awaitText(ctx, t, ".panel h3", "every.Echo.Fail")
	press(ctx, t, ".panel button.main")
	awaitText(ctx, t, ".panel .fault", "text")
	set(ctx, t, at("text")+"input", `<img src=x onerror="document.title = 'taken'">`)
	press(ctx, t, ".panel button.main")
	awaitText(ctx, t, ".result .failed", "not found")
	awaitText(ctx, t, ".result .bad", "onerror")
	if title := evaluate[string](ctx, t, `document.title`); title != "ipcctl" {
		t.Errorf("the title is %q", title)
	}
	if n := evaluate[int](ctx, t, `document.querySelectorAll("img, main script, b[onclick]").
		length`); n != 0 {
		t.Errorf("%d elements came out of texts", n)
	}
}

// TestBrowserStreams sends and receives items one by one, and cancels a call; it subscribes to a
// topic, and publishes one.
func TestBrowserStreams(t *testing.T) {
	ctx := browse(t, 1500, 950)
	newDomain(t)
	serve(t, "mixer")
	serve(t, "topic.status")
	do(ctx, t, chromedp.Navigate(servePage(t)))
	choose(ctx, t, "mixer")

	press(ctx, t, `[data-item="method mixing.Mixer.Jam"]`)
	set(ctx, t, "[data-path=pitch] input", "7")
	press(ctx, t, ".panel button.main")
	awaitText(ctx, t, ".log .item pre", "19")
	set(ctx, t, "[data-path=pitch] input", "300")
	press(ctx, t, ".panel button.main")
	awaitText(ctx, t, "[data-path=pitch] .fault", "300")
	set(ctx, t, "[data-path=pitch] input", "8")
	press(ctx, t, ".panel button.main")
	awaitText(ctx, t, ".log .item:last-child pre", "20")
	screenshot(ctx, t, "stream")
	pressText(ctx, t, ".panel button", "End of items")
	awaitText(ctx, t, ".result.last", "OK")

	press(ctx, t, `[data-item="method mixing.Mixer.Levels"]`)
	press(ctx, t, ".panel button.main")
	awaitText(ctx, t, ".log .item pre", `"peak":1`) // and no other one until it is cancelled
	pressText(ctx, t, ".panel button", "Cancel")
	awaitText(ctx, t, ".result.last", "canceled")
	set(ctx, t, "[data-path=count] input", "9")
	press(ctx, t, ".panel button.main")
	awaitText(ctx, t, ".result.last", "five are enough")

	press(ctx, t, `[data-item="method mixing.Mixer.Upload"]`)
	set(ctx, t, "[data-path=data] textarea", "four")
	press(ctx, t, ".panel button.main")
	awaitText(ctx, t, ".log .sent pre", "102")
	pressText(ctx, t, ".panel button", "End of items")
	awaitText(ctx, t, ".log .item pre", `"bytes":4`)

	choose(ctx, t, "topic.status")
	awaitText(ctx, t, ".panel h3", "robot.Status")
	pressText(ctx, t, ".panel button", "Subscribe")
	awaitText(ctx, t, ".log .item pre", `"speed":0.5`)
	pressText(ctx, t, ".panel button", "Cancel")
	awaitText(ctx, t, ".result.last", "canceled")
	set(ctx, t, "[data-path=speed] input", "0.75")
	pressText(ctx, t, ".panel button", "Publish")
	awaitText(ctx, t, ".log .note", "publishing robot.Status on topic.status.web")
	expect(t, 0, `"message":{"speed":0.75}`, "", "", "subscribe", "-n", "1", "-history", "1",
		"topic.status.web")
	pressText(ctx, t, ".panel button", "Stop publishing")
	awaitText(ctx, t, ".result.last", "OK")
}

// pressText presses the button with a text.
func pressText(ctx context.Context, t *testing.T, selector, text string) {
	t.Helper()
	evaluate[bool](ctx, t, fmt.Sprintf(`[...document.querySelectorAll(%q)].
		find(b => b.textContent === %q).click(), true`, selector, text))
}

// TestBrowserToken opens the page with a wrong token and without one, and with the correct one.
func TestBrowserToken(t *testing.T) {
	ctx := browse(t, 800, 600)
	newDomain(t)
	address := servePage(t)
	page, token, _ := strings.Cut(address, "#")
	do(ctx, t, chromedp.Navigate(page))
	awaitText(ctx, t, "#servers", "the token is missing")
	do(ctx, t, chromedp.Navigate(page+"?#"+token[1:]))
	awaitText(ctx, t, "#servers", "This page is locked")
	do(ctx, t, chromedp.Navigate(address))
	awaitText(ctx, t, "#servers", "Nobody has used this domain yet")
	serve(t, "greeter") // it shows up by itself
	awaitText(ctx, t, "#servers", "greeter")
	if at := evaluate[string](ctx, t, "location.href"); at != page {
		t.Errorf("the address bar has %s", at)
	}
	do(ctx, t, chromedp.Reload())
	awaitText(ctx, t, "#servers", "greeter")
}

// TestBrowserLooks opens the page wide and narrow, light and dark. Nothing is wider than the
// window, and each control has a name.
func TestBrowserLooks(t *testing.T) {
	ctx := browse(t, 1440, 900)
	newDomain(t)
	serve(t, "group")
	serve(t, "greeter")
	serve(t, "mixer")
	serve(t, "topic.status")
	for _, args := range [][]string{
		{"bench", "-duration", "1h", "-rate", "900", "audio_compute", "GetParam", "{}"},
		{"bench", "-duration", "1h", "-rate", "200", "greeter", "Greet", `{"name": "you"}`},
		{"call", "-timeout", "1h", "greeter", "Greet", `{"name": "slow"}`},
	} {
		start(t, strings.NewReader(""), args...)
	}
	do(ctx, t, chromedp.Navigate(servePage(t)))
	awaitText(ctx, t, "#topics", "robot.Status")
	awaitText(ctx, t, ".replica.primary", "audio_compute.0")
	choose(ctx, t, "audio_compute.0")
	press(ctx, t, `[data-item="method audio.AudioControl.SetParam"]`)
	set(ctx, t, "[data-path=value] input", "0.75")
	press(ctx, t, ".panel button.main")
	awaitText(ctx, t, ".result .ok", "OK")
	for _, width := range []int64{1440, 1200, 1000, 400} {
		for _, scheme := range []string{"light", "dark"} {
			do(ctx, t, chromedp.EmulateViewport(width, 900))
			if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia,
				emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
					{Name: "prefers-color-scheme", Value: scheme}}}); err != nil {
				t.Fatal(err)
			}
			if n := evaluate[int64](ctx, t, `document.documentElement.scrollWidth`); n > width {
				t.Errorf("the page is %d pixels wide in a window of %d", n, width)
			}
			if cut := evaluate[bool](ctx, t, `[...document.querySelectorAll("main .card")].some(
				card => card.scrollWidth > card.clientWidth)`); cut {
				t.Errorf("in a window of %d pixels, a part is wider than its card", width)
			}
			screenshot(ctx, t, fmt.Sprintf("%s-%d", scheme, width))
		}
	}
	if nameless := evaluate[string](ctx, t, `[...document.querySelectorAll(
		"main button, main input, main select, main textarea")].filter(e =>
		!e.textContent && !e.labels?.length && !e.getAttribute("aria-label")).
		map(e => e.outerHTML).join("\n")`); nameless != "" {
		t.Errorf("controls without a name:\n%s", nameless)
	}
}
