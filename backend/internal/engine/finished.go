package engine

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

// ListFinished lists the ids of finished instances in the order of (completion, id).
func (e *Engine) ListFinished(ctx context.Context, q api.FinishedQuery) (*api.FinishedPage, error) {
	if !e.isOpen() {
		return nil, backend.ErrNotInitialized
	}
	limit, err := pageSize(q.PageSize)
	if err != nil {
		return nil, err
	}
	f := store.Filter{ByCompletion: true, Limit: limit + 1} // one more says whether there is another page
	if f.AfterTime, f.AfterID, err = parseFinishedToken(q.Token); err != nil {
		return nil, err
	}
	if !q.CompletedFrom.IsZero() {
		f.CompletedFrom = micros(q.CompletedFrom.Add(time.Microsecond - 1))
	}
	if !q.CompletedTo.IsZero() {
		f.CompletedTo = micros(q.CompletedTo)
	}
	for _, s := range q.Statuses {
		f.Statuses = append(f.Statuses, int32(s))
	}
	rows, err := e.st.Query(ctx, f)
	if err != nil {
		return nil, err
	}
	page := &api.FinishedPage{}
	if len(rows) > limit {
		rows = rows[:limit]
		last := rows[limit-1]
		page.Token = strconv.FormatInt(last.CompletedAt, 36) + ":" + last.ID
	}
	for _, row := range rows {
		page.IDs = append(page.IDs, api.InstanceID(row.ID))
	}
	return page, nil
}

// pageSize is the size of a page that a caller asked for; 0 asks for the default.
func pageSize(asked int) (int, error) {
	switch {
	case asked < 0:
		return 0, fmt.Errorf("%w: page size %d is negative", api.ErrInvalidInput, asked)
	case asked == 0:
		return defaultPage, nil
	}
	return min(asked, maxPage), nil
}

func parseFinishedToken(token string) (int64, string, error) {
	if token == "" {
		return 0, "", nil
	}
	at, id, ok := strings.Cut(token, ":")
	n, err := strconv.ParseInt(at, 36, 64)
	if !ok || err != nil || n <= 0 {
		return 0, "", fmt.Errorf("%w: continuation token %q", api.ErrInvalidInput, token)
	}
	return n, id, nil
}
