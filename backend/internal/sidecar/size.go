package sidecar

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/perdure/perdure/api/protos"
)

// What is larger than a worker's messages: gRPC refuses it at the receiver, which
// costs the worker its stream with all that is on it, so that it must not be sent. The
// protocol has no word for what a worker accepts. All SDKs leave the limit of gRPC in
// place but the one for JavaScript, which lifts it; others say so in their metadata.

// DefaultMaxMessage leaves room, in the 4 MiB that gRPC accepts by default, for what surrounds a request.
const DefaultMaxMessage = 4<<20 - room

// largeMessage is the largest request for those who accept any.
const largeMessage = 64<<20 - room

const room = 16 << 10

// MessageKey is the metadata in which a worker says how large a message it accepts, in bytes.
const MessageKey = "perdure-worker-message"

// maxMessageOf is the largest request that the worker takes whose stream has ctx; all is what every worker takes.
func maxMessageOf(ctx context.Context, all int) (int, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if said := md.Get(MessageKey); len(said) > 0 {
		n, err := strconv.Atoi(said[0])
		if err != nil || n <= 0 {
			return 0, status.Errorf(codes.InvalidArgument, "metadata %s is %.40q, want a number of bytes", MessageKey, said[0])
		}
		return min(max(n-room, 1), max(all, largeMessage)), nil
	}
	if slices.ContainsFunc(md.Get("user-agent"), func(a string) bool { return strings.Contains(a, "grpc-node-js/") }) {
		return max(all, largeMessage), nil
	}
	return all, nil
}

// Reach is how large a request the worker of a stream that begins can take, as far
// as that is more than what every worker takes; 0 where it is not.
func (d *Dispatcher) Reach(ctx context.Context, req *protos.GetWorkItemsRequest) int {
	if StreamsHistory(req) {
		return math.MaxInt
	}
	if n, err := maxMessageOf(ctx, d.opts.MaxMessage); err == nil && n > d.opts.MaxMessage {
		return n
	}
	return 0
}

// Takes reports whether a worker has come that hosts the turn which nobody took, and can take it.
func (d *Dispatcher) Takes(err *OversizeError) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.streams, func(s *stream) bool {
		return s.hosts(orchestration, err.name, err.version) && (s.streaming || err.Bytes <= s.maxMessage)
	})
}

// bytes is the size of the whole request.
func (it *item) bytes() int {
	if it.size == 0 {
		switch {
		case it.orchestrator != nil:
			it.size = proto.Size(it.orchestrator)
		case it.entity != nil:
			it.size = proto.Size(it.entity)
		default:
			it.size = proto.Size(it.activity)
		}
	}
	return it.size
}

// fits reports whether the worker can take the item: as one message, or because it has
// the history, or can read it, by other means.
func (s *stream) fits(it *item) bool {
	if it.orchestrator != nil && (s.streaming || it.before.stream == s) {
		return true
	}
	return it.bytes() <= s.maxMessage
}

// OversizeError says that no connected worker that hosts the item can take it.
type OversizeError struct {
	What          string // kind and name
	Bytes, Limit  int
	name, version string
}

func (e *OversizeError) Error() string {
	return fmt.Sprintf("%s makes a message of %d bytes, the workers that host it take %d", e.What, e.Bytes, e.Limit)
}

// oversize is the error for an item that streams host, of which the most generous takes limit bytes.
func oversize(it *item, limit int) error {
	e := &OversizeError{Bytes: it.bytes(), Limit: limit, What: kindNames[it.key.kind] + " " + strconv.Quote(it.name), name: it.name, version: it.version}
	if it.key.kind == orchestration {
		return fmt.Errorf("the history of %w, and none of them can stream a history", e)
	}
	return e
}
