package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

// entry is one line of an audit log. It has no payloads.
type entry struct {
	Time      time.Time `json:"time"`
	Who       string    `json:"who"`
	From      string    `json:"from"` // address
	Hub       string    `json:"hub"`
	Action    string    `json:"action"`
	Instances []string  `json:"instances,omitempty"`
	Name      string    `json:"name,omitempty"` // of the orchestrator or event
	Reason    string    `json:"reason,omitempty"`
	Filter    string    `json:"filter,omitempty"`
	Error     string    `json:"error,omitempty"`
}

// audit is an append-only file of what was changed by whom; nil writes nothing.
type audit struct {
	log backend.Logger

	mu sync.Mutex
	f  *os.File
}

func openAudit(name string, log backend.Logger) (*audit, error) {
	if name == "" {
		return nil, nil //nolint:nilnil // no audit is wanted
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	return &audit{log: log, f: f}, nil
}

func (a *audit) close() error {
	if a == nil {
		return nil
	}
	return a.f.Close()
}

func (a *audit) write(e entry) {
	e.Time = time.Now().UTC()
	line, err := json.Marshal(e)
	if err == nil {
		a.mu.Lock()
		_, err = a.f.Write(append(line, '\n'))
		err = errors.Join(err, a.f.Sync())
		a.mu.Unlock()
	}
	if err != nil {
		a.log.Errorf("audit log: %v: %s", err, line)
	}
}

// unary writes down each call that changes something.
func (a *audit) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	role := roleFor(info.FullMethod)
	if a == nil || role != roleOperator && role != roleAdmin {
		return next(ctx, req)
	}
	resp, err := next(ctx, req)
	e := entry{Who: who(ctx).name, Hub: hubOf(ctx), Action: path.Base(info.FullMethod)}
	if p, ok := peer.FromContext(ctx); ok {
		e.From = p.Addr.String()
	}
	e.describe(req, resp)
	if err != nil {
		e.Error = status.Convert(err).Message()
		if status.Code(err) != codes.Unknown {
			e.Error = status.Code(err).String() + ": " + e.Error
		}
	}
	a.write(e)
	return resp, err
}

func hubOf(ctx context.Context) string {
	md, _ := metadata.FromIncomingContext(ctx)
	if name := strings.ToLower(strings.Join(md.Get(hubKey), ",")); name != "" {
		return name
	}
	return defaultHub
}

// describe takes what a request says of its target.
func (e *entry) describe(req, resp any) {
	for _, m := range []any{req, resp} { // a start without an id gets one
		if v, ok := m.(interface{ GetInstanceId() string }); ok && v.GetInstanceId() != "" && len(e.Instances) == 0 {
			e.Instances = []string{v.GetInstanceId()}
		}
	}
	if v, ok := req.(interface{ GetName() string }); ok {
		e.Name = v.GetName()
	}
	if v, ok := req.(interface {
		GetReason() *wrapperspb.StringValue
	}); ok {
		e.Reason = v.GetReason().GetValue()
	}
	switch r := req.(type) {
	case *protos.PurgeInstancesRequest:
		if ids := r.GetInstanceBatch().GetInstanceIds(); len(ids) > 0 {
			e.Instances = ids
		}
		if f := r.GetPurgeInstanceFilter(); f != nil {
			e.Filter = protojson.Format(f)
		}
	case *protos.InstanceBundle:
		e.Instances = []string{r.GetInstance().GetState().GetInstanceId()}
	}
}

// pages writes down each request that changes something.
func (a *audit) pages(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a == nil || roleForHTTP(r) != roleOperator {
			next.ServeHTTP(w, r)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		_ = r.ParseForm() // the page says what is wrong with it
		rec := &recorder{ResponseWriter: w, code: http.StatusOK}
		next.ServeHTTP(rec, r)
		e := entry{
			Who: who(r.Context()).name, From: r.RemoteAddr, Hub: hubOfPath(r.URL.Path), Action: r.PostForm.Get("verb"),
			Instances: r.PostForm["id"], Reason: r.PostForm.Get("reason"), Name: r.PostForm.Get("event"),
		}
		if rec.code >= http.StatusBadRequest {
			e.Error = http.StatusText(rec.code)
		}
		if strings.HasSuffix(r.URL.Path, "/bulk") && r.PostForm.Get("confirmed") == "" {
			return // a preview
		}
		a.write(e)
	})
}

// hubOfPath is the hub of a page; "" for none.
func hubOfPath(p string) string {
	rest, ok := strings.CutPrefix(p, "/hubs/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// maxForm bounds what a form may hold, in bytes.
const maxForm = 8 << 20

// recorder notes the code of an answer.
type recorder struct {
	http.ResponseWriter
	code int
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) WriteHeader(code int) {
	r.code = code
	r.ResponseWriter.WriteHeader(code)
}
