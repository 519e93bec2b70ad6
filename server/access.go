package server

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/perdure/perdure/api/protos"
)

// The roles that a token may have. Without any it has all.
const (
	roleReader   = "reader"   // looks, and changes nothing
	roleOperator = "operator" // looks, and starts, changes and deletes instances
	roleWorker   = "worker"   // runs work items
	roleAdmin    = "admin"    // everything, also making and deleting task hubs
)

// identity is who asks.
type identity struct {
	name  string
	hash  [sha256.Size]byte
	roles []string // none for all
	hubs  []string // none for all
}

// anybody is who asks where nobody has to say who they are.
var anybody = &identity{name: "anybody"}

func (i *identity) has(role string) bool {
	switch {
	case len(i.roles) == 0, slices.Contains(i.roles, roleAdmin), slices.Contains(i.roles, role):
		return true
	}
	return role == roleReader && slices.Contains(i.roles, roleOperator)
}

func (i *identity) sees(hub string) bool { return len(i.hubs) == 0 || slices.Contains(i.hubs, hub) }

// parseToken reads a line of a token file: a token, or sha256: and its hash,
// then, where they are given, its name, roles and task hubs.
//
//	a-token-that-is-long-enough
//	sha256:5e88…  name=ci role=worker,operator hubs=default,blue
func parseToken(line string) (*identity, error) {
	words := strings.Fields(line)
	i := &identity{name: "token"}
	if text, hashed := strings.CutPrefix(words[0], "sha256:"); hashed {
		h, err := hex.DecodeString(text)
		if err != nil || len(h) != sha256.Size {
			return nil, errors.New("after sha256: want 64 hexadecimal digits")
		}
		copy(i.hash[:], h)
	} else if len(words[0]) < minToken {
		return nil, fmt.Errorf("the token has %d characters, the least is %d", len(words[0]), minToken)
	} else {
		i.hash = sha256.Sum256([]byte(words[0]))
	}
	for _, w := range words[1:] {
		key, value, ok := strings.Cut(w, "=")
		list := strings.Split(value, ",")
		if !ok || value == "" || slices.Contains(list, "") {
			return nil, fmt.Errorf("%q is not name=, role= or hubs= with a value", w)
		}
		switch key {
		case "name":
			i.name = value
		case "role":
			for _, r := range list {
				if !slices.Contains([]string{roleReader, roleOperator, roleWorker, roleAdmin}, r) {
					return nil, fmt.Errorf("there is no role %q: want reader, operator, worker or admin", r)
				}
			}
			i.roles = list
		case "hubs":
			i.hubs = list
		default:
			return nil, fmt.Errorf("there is no setting %q: want name, role or hubs", key)
		}
	}
	return i, nil
}

// find returns whose token it is; nil for nobody's. It takes as long for each.
func find(all []*identity, token string) *identity {
	got := sha256.Sum256([]byte(strings.TrimSpace(token)))
	var found *identity
	for _, i := range all {
		if subtle.ConstantTimeCompare(i.hash[:], got[:]) == 1 {
			found = i
		}
	}
	return found
}

type identityKey struct{}

// who asks, of a call that was admitted.
func who(ctx context.Context) *identity {
	if i, ok := ctx.Value(identityKey{}).(*identity); ok {
		return i
	}
	if p, ok := peer.FromContext(ctx); ok {
		if t, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(t.State.VerifiedChains) > 0 {
			return &identity{name: t.State.VerifiedChains[0][0].Subject.CommonName}
		}
	}
	return anybody
}

// reads are the calls that change nothing.
var reads = map[string]bool{
	"GetInstance": true, "WaitForInstanceStart": true, "WaitForInstanceCompletion": true, "QueryInstances": true, "ListInstanceIds": true,
	"StreamInstanceHistory": true, "GetEntity": true, "QueryEntities": true,
	"Find": true, "Count": true, "Inspect": true, "Explain": true, "Workers": true, "Export": true,
}

// roleFor is the role that a call needs; "" for none.
func roleFor(fullMethod string) string {
	service, method, _ := strings.Cut(strings.TrimPrefix(fullMethod, "/"), "/")
	if service != protos.TaskHubSidecarService_ServiceDesc.ServiceName && service != protos.Operations_ServiceDesc.ServiceName {
		return "" // health and reflection
	}
	switch {
	case method == "Hello":
		return ""
	case reads[method]:
		return roleReader
	case method == "GetWorkItems", strings.HasPrefix(method, "Complete"), strings.HasPrefix(method, "Abandon"):
		return roleWorker
	case strings.HasSuffix(method, "TaskHub"):
		return roleAdmin
	}
	return roleOperator
}

// roleForHTTP is the role that a request needs.
func roleForHTTP(r *http.Request) string {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return roleReader
	}
	return roleOperator
}
