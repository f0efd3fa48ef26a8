package services_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"spillway/pkg/apikey"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	httpdoor "spillway/services/ingest/door"
)

// screenshotsEnv names a folder for pictures of the page, for people to look at.
const screenshotsEnv = "SPILLWAY_SCREENSHOTS"

// browser is a Chromium that looks at a page, which shows what becomes of a request.
type browser struct {
	t   *testing.T
	ctx context.Context
}

// openBrowser starts Chromium. It reaches nobody but this machine.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skipf("LEFT OUT: there is no browser here: %v; on Debian: apt-get install chromium", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path),
		chromedp.WindowSize(1100, 900), chromedp.NoSandbox, chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"))
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	allocated, release := chromedp.NewExecAllocator(ctx, options...)
	ctx, leave := chromedp.NewContext(allocated)
	t.Cleanup(func() {
		cancel() // of a browser that did not start, leave would wait for ever
		leave()
		release()
	})
	b := &browser{t: t, ctx: ctx}
	b.visit("about:blank")
	return b
}

func (b *browser) visit(address string) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, chromedp.Navigate(address)); err != nil {
		b.t.Fatalf("visit %s: %v", address, err)
	}
}

// run runs a script in the page, which makes a string.
func (b *browser) run(script string) string {
	b.t.Helper()
	text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](script))
	if err != nil {
		b.t.Fatalf("run %s: %v", script, err)
	}
	return text
}

// text is that of what a selector finds; "": it finds nothing.
func (b *browser) text(selector string) string {
	b.t.Helper()
	return b.run(fmt.Sprintf(`document.querySelector(%q)?.textContent ?? ""`, selector))
}

// told are the events that one of the page's two ways was told, drafts in a row once.
func (b *browser) told(way string) []string {
	b.t.Helper()
	return strings.Fields(b.run(fmt.Sprintf(`[...document.querySelectorAll("#%s li")].map((li) => li.dataset.event).join(" ")`, way)))
}

// drafts are what was told of drafts and the result, of the connection the rest.
func (b *browser) drafts(way string) string {
	b.t.Helper()
	var drafts []string
	for _, event := range b.told(way) {
		switch event {
		case "draft", "retracted", "restarted", "result":
			if len(drafts) == 0 || drafts[len(drafts)-1] != event {
				drafts = append(drafts, event) // two with progress in between are one
			}
		}
	}
	return strings.Join(drafts, ", ")
}

func (b *browser) eventually(what string, holds func() bool) {
	b.t.Helper()
	brokertest.Eventually(b.t, time.Minute, what, holds)
}

func (b *browser) picture(name string) {
	b.t.Helper()
	folder := os.Getenv(screenshotsEnv)
	if folder == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatalf("take a picture: %v", err)
	}
	if err := os.WriteFile(filepath.Join(folder, name+".png"), png, 0o600); err != nil {
		b.t.Error(err)
	}
}

// site is where the page comes from: another origin than the door. Its backend has a key, and asks in the page's name.
type site struct {
	*httptest.Server
	door, secret string
}

func newSite(t *testing.T, door string) *site {
	t.Helper()
	s := &site{door: door}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServer(http.Dir("../deploy/clients/browser")))
	mux.HandleFunc("POST /ask", s.ask)
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// ask hands the request on, and what the door says back.
func (s *site) ask(w http.ResponseWriter, r *http.Request) {
	q, err := http.NewRequestWithContext(r.Context(), http.MethodPost, s.door+"/v1/tasks/toy/jobs", r.Body)
	if err == nil {
		q.Header.Set("Authorization", "Bearer "+s.secret)
		q.Header.Set("Content-Type", "application/json")
		var said *http.Response
		if said, err = http.DefaultClient.Do(q); err == nil {
			defer said.Body.Close()
			w.WriteHeader(said.StatusCode)
			_, err = io.Copy(w, said.Body)
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
	}
}

// page is the address of the page at a host, with the door and the text filled in.
func (s *site) page(host, by, text string) string {
	at := strings.Replace(s.URL, "127.0.0.1", host, 1)
	return at + "/?" + url.Values{"door": {s.door}, "task": {"toy"}, "text": {text}, "by": {by}}.Encode()
}

// standing is a door at an address that stays the same when the process behind it is another one.
type standing struct {
	t       *testing.T
	ring    *apikey.Ring
	origin  string
	r       *rig
	address string
	door    *httpdoor.Door
	server  *http.Server
	done    chan struct{}
}

func (s *standing) open() {
	s.t.Helper()
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.door = s.r.doorWith(s.ring, s.origin)
	s.server = &http.Server{Handler: s.door.Handler(), ReadHeaderTimeout: 10 * time.Second}
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		_ = s.server.Serve(l) // until leave
	}()
}

// leave closes as a process does that is asked to.
func (s *standing) leave() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s.door.Drain(ctx)
	_ = s.server.Close()
	s.door.Close()
	<-s.done
}

// draftedSite is a pipeline that streams drafts, its door, which asks for keys, and a page of another origin.
func draftedSite(t *testing.T) (*rig, *standing, *site) {
	t.Helper()
	r, _ := draftRig(t)
	at := fmt.Sprintf("127.0.0.1:%d", quietPort(t))
	page := newSite(t, "http://"+at)
	door := &standing{t: t, ring: r.ring(), origin: page.URL, r: r, address: at}
	var err error
	page.secret, _, err = apikey.Create(t.Context(), r.conn, apikey.Spec{Name: "page", Tenant: "acme", Scopes: []apikey.Scope{apikey.Submit, apikey.Read}})
	if err != nil {
		t.Fatal(err)
	}
	door.open()
	t.Cleanup(door.leave)
	brokertest.Eventually(t, 10*time.Second, "the door knows the key", func() bool {
		_, err := door.ring.Check(page.secret)
		return err == nil
	})
	return r, door, page
}

// send opens the page and sends what it has filled in.
func (b *browser) send(address, key string) {
	b.t.Helper()
	b.visit(address)
	b.run(fmt.Sprintf(`document.getElementById("key").value = %q; document.querySelector("button").click(); ""`, key))
}

// sent sends, and returns the id that the page was told.
func (b *browser) sent(address, key string) (id string) {
	b.t.Helper()
	b.send(address, key)
	b.eventually("it is sent", func() bool {
		id = b.run(`document.getElementById("said").dataset.id ?? ""`)
		return id != ""
	})
	return id
}

func TestABrowserShowsDraftsARetractionAndTheResult(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	r, _, page := draftedSite(t)
	r.first.SetFaults(fakellm.Fault{Kind: fakellm.KindOffSchemaOnceTold})
	r.first.SetLatency(fakellm.Latency{FirstToken: 500 * time.Millisecond, PerToken: 20 * time.Millisecond})
	for by, key := range map[string]string{"page": page.secret, "backend": ""} {
		id := b.sent(page.page("127.0.0.1", by, "A story, sent by the "+by+"."), key)
		b.eventually("the first drafts are taken back", func() bool { return strings.Contains(b.drafts("ws"), "retracted") })
		b.picture("retracted-" + by)
		result := r.result(id, 1)
		check(t, by, result, succeeded("corrected"))
		for _, way := range []string{"sse", "ws"} {
			b.eventually("the result is shown", func() bool { return strings.HasSuffix(b.drafts(way), "result") })
			if got := b.drafts(way); got != "draft, retracted, restarted, draft, result" || b.told(way)[0] != "state" {
				t.Errorf("%s, %s: %s, of %v", by, way, got, b.told(way))
			}
			if got := b.text("#" + way + " [data-event=retracted] span"); got != "output_invalid" {
				t.Errorf("%s, %s: retracted because of %q", by, way, got)
			}
			var shown, stored any
			if err := json.Unmarshal([]byte(b.text("#"+way+" .shown.succeeded")), &shown); err != nil {
				t.Error(err)
			}
			if err := json.Unmarshal(result.Output, &stored); err != nil || !reflect.DeepEqual(shown, stored) {
				t.Errorf("%s, %s: shown is %v, stored %s", by, way, shown, result.Output)
			}
		}
		b.picture("result-" + by)
	}
}

func TestABrowserKeepsPagesOfOtherOriginsOut(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	r, _, page := draftedSite(t)
	// The same server under another name is another origin. Its page may not post …
	b.send(page.page("localhost", "page", "Not for you."), page.secret)
	b.eventually("it is told that nothing was sent", func() bool { return strings.HasPrefix(b.text("#said"), "not sent") })
	if n := r.first.Counts().Calls; n != 0 {
		t.Errorf("%d calls for a page that may not ask", n)
	}
	// … and not read, though a backend gave it an address with a token.
	id := b.sent(page.page("localhost", "backend", "Not for you either."), "")
	check(t, "sent by the backend", r.result(id, 1), succeeded("strict"))
	b.eventually("both ways are refused", func() bool {
		return strings.Join(b.told("sse"), " ") == "refused" && len(b.told("ws")) > 0
	})
	for _, event := range b.told("ws") {
		if event != "broken" {
			t.Errorf("a page that may not read is told %s", event)
		}
	}
}

func TestABrowserGoesOnWhereItWasWhenTheDoorIsReplaced(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	r, door, page := draftedSite(t)
	answer := strings.TrimSpace(strings.Repeat("It was a dark and stormy night; the rain fell in torrents. ", 6))
	r.first.SetAnswer("small-1", answer)
	r.first.SetLatency(fakellm.Latency{PerToken: 100 * time.Millisecond})
	id := b.sent(strings.Replace(page.page("127.0.0.1", "page", "Begin."), "task=toy", "task=plain", 1), page.secret)
	ways := []string{"sse", "ws"}
	for _, way := range ways {
		b.eventually("drafts are shown", func() bool { return strings.HasPrefix(b.drafts(way), "draft") })
	}
	door.leave()
	door.open()
	for _, way := range ways {
		b.eventually("it came back", func() bool {
			return slices.Contains(b.told(way), "reconnect") && b.text("#"+way+" [data-event=state]:not(:first-child)") != ""
		})
		if shown := b.text("#" + way + " .shown"); !strings.HasPrefix(answer, shown) {
			t.Errorf("%s shows %q", way, shown)
		}
	}
	result := r.result(id, 1)
	check(t, "across two doors", result, succeeded("strict"))
	for _, way := range ways {
		b.eventually("the result is shown", func() bool { return strings.HasSuffix(b.drafts(way), "result") })
		if got := b.drafts(way); got != "draft, result" {
			t.Errorf("%s: %s, of %v", way, got, b.told(way))
		}
		if shown := b.text("#" + way + " .shown.succeeded"); shown != answer {
			t.Errorf("%s shows %q", way, shown)
		}
	}
}
