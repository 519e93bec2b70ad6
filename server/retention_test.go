package server

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

func TestRetention(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	rule, err := backend.ParseRetentionRule("completed=0s")
	if err != nil {
		t.Fatal(err)
	}
	b := start(t, t.TempDir()+"/hub.db", Options{Retention: []backend.RetentionRule{rule}, retentionEvery: 10 * time.Millisecond})
	stream := b.worker(t)
	b.startAs(t, "o", "i")
	b.complete(t, receive(t, stream), `"done"`)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); ; <-tick.C {
		r, err := b.client.GetInstance(t.Context(), &protos.GetInstanceRequest{InstanceId: "i"})
		if err != nil || time.Now().After(end) {
			t.Fatalf("%v, %v", r, err)
		}
		if !r.GetExists() {
			break
		}
	}
	if err := b.stop(); err != nil {
		t.Error(err)
	}
}
