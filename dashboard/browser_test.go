package dashboard_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/dashboard"
)

// browser starts a real one. Without it the test is skipped, unless
// PERDURE_BROWSER_TESTS=require. It fails the test when a page runs what it should
// show: a dialog opens, or a script reports an error.
func browser(t *testing.T) context.Context {
	t.Helper()
	bin := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			bin = p
			break
		}
	}
	if bin == "" {
		if os.Getenv("PERDURE_BROWSER_TESTS") == "require" {
			t.Fatal("there is no Chromium on this machine")
		}
		t.Skip("there is no Chromium on this machine")
	}
	ctx, stop := chromedp.NewExecAllocator(context.Background(),
		append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(bin), chromedp.NoSandbox)...)
	t.Cleanup(stop)
	ctx, closeTab := chromedp.NewContext(ctx)
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Error(err)
		}
		closeTab()
	})
	if err := chromedp.Listen(ctx, func(ev any) {
		switch ev := ev.(type) {
		case *page.EventJavascriptDialogOpening:
			t.Errorf("a dialog opened: %s", ev.Message)
		case *runtime.EventExceptionThrown:
			t.Errorf("a script failed: %+v", ev.ExceptionDetails)
		case *runtime.EventConsoleAPICalled:
			if ev.Type == runtime.ConsoleAPICalledTypeError {
				t.Errorf("a script complains: %+v", ev.Args)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	return ctx
}

func TestInABrowser(t *testing.T) {
	ctx := browser(t)
	s := newSite(t, dashboard.Options{Hub: hostile})
	evil := `"><img src=x onerror=alert(1)><script>alert(2)</script>`
	s.start("steps", api.WithInstanceID(api.InstanceID(evil)), api.WithInput(evil), api.WithTags(map[string]string{evil: evil}))
	s.start("fails", api.WithInstanceID("failed"))
	s.start("waits", api.WithInstanceID("waits"))
	do := func(what string, steps ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, steps...); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	js := func(script, want string) {
		t.Helper()
		got, err := chromedp.Run(ctx, chromedp.Evaluate[string](script))
		if err != nil || !strings.HasPrefix(got, want) {
			t.Errorf("%s is %q, %v, want %q", script, got, err, want)
		}
	}

	do("the list", chromedp.Navigate(s.url+"/"), chromedp.WaitVisible(chromedp.CSS("tbody tr")))
	js(`String(document.querySelectorAll("tbody tr").length)`, "4")
	do("the hostile instance", chromedp.Click(chromedp.CSS("tbody tr:last-child a")), chromedp.WaitVisible(chromedp.CSS("canvas")))
	js(`document.querySelector("h1").textContent`, evil)
	do("the timeline by keyboard", chromedp.Focus(chromedp.CSS("canvas")),
		chromedp.KeyEvent("+"), chromedp.KeyEvent(kb.ArrowRight), chromedp.KeyEvent("-"))
	js(`document.activeElement.tagName`, "CANVAS")
	do("the instance again", chromedp.Reload(), chromedp.WaitVisible(chromedp.CSS("canvas")))
	js(`(() => { const c = document.querySelector("canvas"), b = c.getBoundingClientRect();
		c.dispatchEvent(new MouseEvent("mousemove", { clientX: b.left + 1, clientY: b.top + 5, bubbles: true }));
		return document.querySelector(".tip").textContent; })()`, "start steps")

	do("an action with its preview", chromedp.Navigate(s.url+"/instance?id=waits"),
		chromedp.Click(chromedp.Search(`//a[text()="terminate"]`)), chromedp.WaitVisible(chromedp.CSS(`input[name="reason"]`)),
		chromedp.SendKeys(chromedp.CSS(`input[name="reason"]`), evil), chromedp.Click(chromedp.CSS("main form button")),
		chromedp.WaitVisible(chromedp.CSS(".facts")))
	if _, err := s.client.WaitForOrchestrationCompletion(t.Context(), "waits"); err != nil {
		t.Fatal(err)
	}
	if got := s.status("waits"); got != "TERMINATED" {
		t.Errorf("it is %s", got)
	}
	do("its page", chromedp.Reload(), chromedp.WaitVisible(chromedp.CSS(".facts")))
	do("its history", chromedp.Navigate(s.url+"/instance/history?id=waits"), chromedp.WaitVisible(chromedp.CSS("tbody tr")),
		chromedp.Click(chromedp.CSS("#follow")))
	do("a failure", chromedp.Navigate(s.url+"/instance?id=failed"), chromedp.WaitVisible(chromedp.CSS(".failure")))
	do("entities", chromedp.Navigate(s.url+"/entities"), chromedp.WaitVisible(chromedp.CSS("table")))
}
