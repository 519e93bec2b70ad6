package api_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

func TestMetadataRoundTripsThroughJSON(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC()
	full := api.NewOrchestrationMetadata("i", "o", api.RUNTIME_STATUS_FAILED, now, now.Add(time.Nanosecond), "in", "out", "custom",
		&protos.TaskFailureDetails{ErrorType: "T", ErrorMessage: "m", InnerFailure: &protos.TaskFailureDetails{ErrorType: "U"}})
	full.Version, full.ExecutionID, full.ParentInstanceID = "v1", "e", "p"
	full.Tags, full.CompletedAt, full.ScheduledStartAt, full.Stalled = map[string]string{"a": "b"}, now, now, "why"
	for _, want := range []*api.OrchestrationMetadata{
		full, api.NewOrchestrationMetadata("i", "o", api.RUNTIME_STATUS_PENDING, now, now, "", "", "", nil),
	} {
		data, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got api.OrchestrationMetadata
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, &got, protocmp.Transform()); d != "" {
			t.Errorf("%s: %s", data, d)
		}
	}
}
