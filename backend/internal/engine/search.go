package engine

import (
	"context"
	"strconv"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/search"
	"github.com/perdure/perdure/backend/internal/store"
)

// A page of a search looks at so many instances, or takes so long, at most.
const (
	searchRows = 20_000
	searchTime = 200 * time.Millisecond
)

// search is QueryInstances for what no store can select by itself.
func (e *Engine) search(ctx context.Context, q api.InstanceQuery, limit int) (*api.InstancePage, error) {
	page, began := &api.InstancePage{}, time.Now()
	looked, last := 0, int64(0)
	more, err := e.seek(ctx, q, func(row *store.Instance, m *api.OrchestrationMetadata, matches bool) bool {
		last = row.Key
		if looked++; matches {
			page.Instances = append(page.Instances, m)
		}
		return len(page.Instances) < limit && looked < searchRows && (looked%100 != 0 || time.Since(began) < searchTime)
	})
	if err != nil {
		return nil, err
	}
	if more {
		page.Token = strconv.FormatInt(last, 36)
	}
	return page, nil
}

func (e *Engine) searchCount(ctx context.Context, q api.InstanceQuery) (map[api.OrchestrationStatus]int64, error) {
	counts := map[api.OrchestrationStatus]int64{}
	_, err := e.seek(ctx, q, func(_ *store.Instance, m *api.OrchestrationMetadata, matches bool) bool {
		if matches {
			counts[m.RuntimeStatus]++
		}
		return true
	})
	return counts, err
}

// seek looks at the instances of a query in its order until f returns false;
// then it reports that there may be more.
func (e *Engine) seek(
	ctx context.Context, q api.InstanceQuery, f func(*store.Instance, *api.OrchestrationMetadata, bool) bool,
) (more bool, err error) {
	s, err := search.Parse(q.Search)
	if err != nil {
		return false, err
	}
	now := timeOf(e.now())
	s.Narrow(&q, now)
	filter := filterOf(q)
	filter.Newest, filter.Limit, filter.Payloads = q.NewestFirst, scanPage, q.Payloads || s.NeedsPayloads()
	if filter.Payloads {
		filter.Limit = scanPage / 10 // each may have megabytes
	}
	if filter.AfterKey, err = keyOf(q.Token); err != nil {
		return false, err
	}
	for {
		rows, err := e.st.Query(ctx, filter)
		if err != nil {
			return false, err
		}
		for _, row := range rows {
			m := metadataOf(row)
			matches := s.Match(m, now)
			if !q.Payloads {
				m.SerializedInput, m.SerializedOutput, m.SerializedCustomStatus = "", "", ""
			}
			if !f(row, m, matches) {
				return true, nil
			}
			filter.AfterKey = row.Key
		}
		if len(rows) < filter.Limit {
			return false, nil
		}
	}
}
