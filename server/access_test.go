package server

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api/protos"
)

func TestParseToken(t *testing.T) {
	long := strings.Repeat("x", minToken)
	h := sha256.Sum256([]byte(long))
	hashed := "sha256:" + hex.EncodeToString(h[:])
	for line, want := range map[string]identity{
		long:   {name: "token"},
		hashed: {name: "token"},
		hashed + "  name=ci role=worker,operator hubs=default,blue": {name: "ci", roles: []string{"worker", "operator"}, hubs: []string{"default", "blue"}},
	} {
		got, err := parseToken(line)
		if err != nil || got.hash != h || got.name != want.name || len(got.roles) != len(want.roles) || len(got.hubs) != len(want.hubs) {
			t.Errorf("%q: %+v, %v", line, got, err)
		}
	}
	for _, line := range []string{"short", "sha256:12", "sha256:" + strings.Repeat("z", 64), long + " role=king", long + " role=", long + " colour=red", long + " admin", long + " hubs=a,,b"} {
		if i, err := parseToken(line); err == nil {
			t.Errorf("%q is taken: %+v", line, i)
		}
	}
}

func TestEachCallNeedsARole(t *testing.T) {
	for service, methods := range map[string][]string{
		"TaskHubSidecarService": names(protos.TaskHubSidecarService_ServiceDesc.Methods, protos.TaskHubSidecarService_ServiceDesc.Streams),
		"perdure.v1.Operations": names(protos.Operations_ServiceDesc.Methods, protos.Operations_ServiceDesc.Streams),
	} {
		for _, m := range methods {
			if role := roleFor("/" + service + "/" + m); (role == "") != (m == "Hello") {
				t.Errorf("%s needs the role %q", m, role)
			}
		}
	}
	for m := range reads {
		if strings.HasPrefix(m, "Purge") || strings.HasPrefix(m, "Start") {
			t.Errorf("%s is no read", m)
		}
	}
}

const (
	readerToken   = "a-reader-s-token-of-some-length"
	operatorToken = "an-operator-s-token-of-some-length"
	workerToken   = "a-worker-s-token-of-some-length"
	adminToken    = "the-token-of-an-admin"
)

func TestRolesAndAudit(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	dir := t.TempDir()
	h := sha256.Sum256([]byte(readerToken))
	if err := os.WriteFile(dir+"/tokens", []byte(strings.Join([]string{
		"# who may do what", "sha256:" + hex.EncodeToString(h[:]) + " name=ada role=reader", operatorToken + " name=bob role=operator hubs=default",
		workerToken + " name=fleet role=worker", adminToken,
	}, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	b := start(t, dir+"/hub.db", Options{Drain: 100 * time.Millisecond, Hubs: &folder{dir: dir}, Security: Security{TokenFile: dir + "/tokens", AuditFile: dir + "/audit.jsonl"}})
	as := func(token, hub string) metadata.MD {
		md := metadata.Pairs("authorization", "Bearer "+token)
		if hub != "" {
			md.Set(hubKey, hub)
		}
		return md
	}
	begin := func(md metadata.MD) error {
		_, err := b.client.StartInstance(metadata.NewOutgoingContext(t.Context(), md), &protos.CreateInstanceRequest{Name: "o", InstanceId: "i", Input: wrapperspb.String("secret")})
		return err
	}
	read := func(md metadata.MD) error {
		_, err := b.client.GetInstance(metadata.NewOutgoingContext(t.Context(), md), &protos.GetInstanceRequest{InstanceId: "i"})
		return err
	}
	suspend := func(md metadata.MD) error {
		_, err := b.client.SuspendInstance(metadata.NewOutgoingContext(t.Context(), md), &protos.SuspendRequest{InstanceId: "i", Reason: wrapperspb.String("lunch")})
		return err
	}
	work := func(md metadata.MD) error {
		s, err := b.client.GetWorkItems(metadata.NewOutgoingContext(t.Context(), md), &protos.GetWorkItemsRequest{})
		if err == nil {
			_, err = s.Recv()
		}
		return err
	}
	makeHub := func(md metadata.MD) error {
		_, err := b.client.CreateTaskHub(metadata.NewOutgoingContext(t.Context(), md), &protos.CreateTaskHubRequest{})
		return err
	}
	for _, tt := range []struct {
		name, token, hub string
		do               func(metadata.MD) error
		want             codes.Code
	}{
		{"nobody reads", "nobody's-token-is-here", "", read, codes.Unauthenticated},
		{"a reader starts", readerToken, "", begin, codes.PermissionDenied},
		{"an operator starts", operatorToken, "", begin, codes.OK},
		{"an operator starts elsewhere", operatorToken, "blue", begin, codes.PermissionDenied},
		{"a reader reads", readerToken, "", read, codes.OK},
		{"an operator reads", operatorToken, "", read, codes.OK},
		{"a worker reads", workerToken, "", read, codes.PermissionDenied},
		{"a worker works", workerToken, "", work, codes.OK},
		{"an operator works", operatorToken, "", work, codes.PermissionDenied},
		{"an operator makes a hub", operatorToken, "", makeHub, codes.PermissionDenied},
		{"an admin makes a hub", adminToken, "", makeHub, codes.OK},
		{"an operator suspends", operatorToken, "", suspend, codes.OK},
	} {
		if err := tt.do(as(tt.token, tt.hub)); status.Code(err) != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	page := func(method, token, path string, form url.Values) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+b.HTTPAddr()+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("x", token)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		return r.StatusCode
	}
	resume := url.Values{"id": {"i"}, "verb": {"resume"}, "reason": {"back"}}
	for _, tt := range []struct {
		name, method, token, path string
		want                      int
	}{
		{"a reader looks", http.MethodGet, readerToken, "/hubs/default/instance?id=i", 200},
		{"a reader acts", http.MethodPost, readerToken, "/hubs/default/instance/act", 403},
		{"a worker looks", http.MethodGet, workerToken, "/hubs/default/", 403},
		{"an operator looks elsewhere", http.MethodGet, operatorToken, "/hubs/blue/", 403},
		{"an operator acts", http.MethodPost, operatorToken, "/hubs/default/instance/act", 303},
	} {
		if code := page(tt.method, tt.token, tt.path, resume); code != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, code, tt.want)
		}
	}
	if err := b.stop(); err != nil {
		t.Error(err)
	}
	data, err := os.ReadFile(dir + "/audit.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		var e entry
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Time.IsZero() || e.From == "" || e.Hub != "default" {
			t.Errorf("%s: %v", line, err)
		}
		lines = append(lines, strings.Join([]string{e.Who, e.Action, strings.Join(e.Instances, ","), e.Reason}, " "))
	}
	want := []string{"bob StartInstance i ", "token CreateTaskHub  ", "bob SuspendInstance i lunch", "bob resume i back"}
	if strings.Join(lines, "\n") != strings.Join(want, "\n") || strings.Contains(string(data), "secret") {
		t.Errorf("the audit log has\n%s\nwant\n%s", data, strings.Join(want, "\n"))
	}
}

func names(methods []grpc.MethodDesc, streams []grpc.StreamDesc) (all []string) {
	for _, m := range methods {
		all = append(all, m.MethodName)
	}
	for _, s := range streams {
		all = append(all, s.StreamName)
	}
	return all
}
