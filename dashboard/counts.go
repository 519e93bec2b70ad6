package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/perdure/perdure/api"
)

// countLimit bounds how long a count may take: it may look at all instances.
const countLimit = 3 * time.Second

// errSlow says that a count was given up. A list does without.
var errSlow = errors.New("counting takes too long")

// counts is how many instances the filter of a list selects, by status.
func (d *dashboard) counts(w http.ResponseWriter, r *http.Request) error {
	q, err := queryOf(r.URL.Query())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), countLimit)
	defer cancel()
	byStatus, err := d.client.CountInstances(ctx, q)
	if ctx.Err() != nil && r.Context().Err() == nil {
		return errSlow
	}
	if err != nil {
		return fmt.Errorf("count instances: %w", err)
	}
	counts, total := map[string]int64{}, int64(0)
	for s, n := range byStatus {
		counts[api.StatusName(s)] = n
		total += n
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(map[string]any{"counts": counts, "total": total})
}
