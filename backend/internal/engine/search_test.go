package engine_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend/internal/memstore"
	"github.com/perdure/perdure/task"
)

func TestSearchPages(t *testing.T) {
	t.Parallel()
	be, c := explained(t, memstore.New(), task.NewTaskRegistry())
	const all = 2500
	for n := range all {
		if err := be.ImportInstance(t.Context(), &api.InstanceBundle{Metadata: &api.OrchestrationMetadata{
			InstanceID: api.InstanceID(fmt.Sprintf("i%04d", n)), Name: "o", RuntimeStatus: api.RUNTIME_STATUS_COMPLETED,
			CreatedAt: time.Now(), LastUpdatedAt: time.Now(), SerializedInput: fmt.Sprintf(`{"n":%d,"odd":%v}`, n, n%2 == 1),
		}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, newest := range []bool{false, true} {
		got, pages := map[api.InstanceID]bool{}, 0
		for q := (api.InstanceQuery{Search: "input.odd:true input.n>=100", PageSize: 700, NewestFirst: newest}); ; pages++ {
			page, err := c.Query(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range page.Instances {
				if got[m.InstanceID] || m.SerializedInput != "" {
					t.Errorf("%s came again, or with a payload nobody asked for", m.InstanceID)
				}
				got[m.InstanceID] = true
			}
			if q.Token = page.Token; q.Token == "" {
				break
			}
		}
		if len(got) != 1200 || pages < 1 {
			t.Errorf("newest first %v: %d instances on %d pages, want 1200", newest, len(got), pages)
		}
	}
	counts, err := c.CountInstances(t.Context(), api.InstanceQuery{Search: "input.n<10"})
	if err != nil || counts[api.RUNTIME_STATUS_COMPLETED] != 10 {
		t.Errorf("counts: %v, %v", counts, err)
	}
	page, err := c.Query(t.Context(), api.InstanceQuery{Search: "id:i00* name:o", Payloads: true, PageSize: 1000})
	if err != nil || len(page.Instances) != 100 || page.Instances[3].SerializedInput != `{"n":3,"odd":true}` {
		t.Errorf("by prefix: %d, %v", len(page.Instances), err)
	}
	if _, err := c.Query(t.Context(), api.InstanceQuery{Search: "a:b"}); !errors.Is(err, api.ErrInvalidInput) {
		t.Errorf("a wrong search: %v", err)
	}
}
