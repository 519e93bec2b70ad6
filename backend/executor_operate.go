package backend

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// operations is what Perdure's own clients ask for beyond the Durable Task protocol.
type operations struct {
	protos.UnimplementedOperationsServer
	be      Backend
	workers WorkerReporter
}

func findQuery(req *protos.FindRequest) (api.InstanceQuery, error) {
	q, err := instanceQuery(req.GetStatuses(), req.GetCreatedFrom(), req.GetCreatedTo())
	q.IDPrefix, q.Name, q.ParentID = req.GetIdPrefix(), req.GetName(), api.InstanceID(req.GetParentId())
	q.Search = req.GetSearch()
	return q, err
}

func (s *operations) Count(ctx context.Context, req *protos.FindRequest) (*protos.CountResponse, error) {
	q, err := findQuery(req)
	if err != nil {
		return nil, statusError(err)
	}
	counts, err := countInstances(ctx, s.be, q)
	if err != nil {
		return nil, statusError(err)
	}
	resp := &protos.CountResponse{Counts: map[int32]int64{}}
	for st, n := range counts {
		resp.Counts[int32(st)] = n
	}
	return resp, nil
}

func (s *operations) Find(ctx context.Context, req *protos.FindRequest) (*protos.FindResponse, error) {
	q, err := findQuery(req)
	if err != nil {
		return nil, statusError(err)
	}
	q.PageSize, q.Payloads, q.Token = int(min(req.GetPageSize(), maxPage)), req.GetPayloads(), req.GetToken()
	q.NewestFirst = req.GetNewestFirst()
	for {
		page, err := query(ctx, s.be, q)
		if err != nil {
			return nil, statusError(err)
		}
		resp := &protos.FindResponse{Token: page.Token}
		for _, m := range page.Instances {
			resp.Instances = append(resp.Instances, m.Info(q.Payloads))
		}
		n := len(page.Instances)
		if n <= 1 || proto.Size(resp) <= maxMessage {
			return resp, nil
		}
		q.PageSize = n / 2
	}
}

func (s *operations) Inspect(ctx context.Context, req *protos.InspectRequest) (*protos.InstanceInfo, error) {
	m, err := s.be.GetOrchestrationMetadata(ctx, api.InstanceID(req.GetInstanceId()))
	if err != nil {
		return nil, statusError(fmt.Errorf("fetch metadata of %q: %w", req.GetInstanceId(), err))
	}
	return m.Info(req.GetPayloads()), nil
}

func (s *operations) End(ctx context.Context, req *protos.EndRequest) (*protos.EndResponse, error) {
	var output *string
	if req.GetOutput() != nil {
		text := req.GetOutput().GetValue()
		output = &text
	}
	if err := forceTerminate(ctx, s.be, api.InstanceID(req.GetInstanceId()), output); err != nil {
		return nil, statusError(err)
	}
	return &protos.EndResponse{}, nil
}

func (s *operations) Erase(ctx context.Context, req *protos.EraseRequest) (*protos.EraseResponse, error) {
	id := api.InstanceID(req.GetInstanceId())
	var n int
	var err error
	if req.GetForce() {
		n, err = forcePurge(ctx, s.be, id)
	} else {
		n, err = purge(ctx, s.be, id, req.GetRecursive())
	}
	if err != nil {
		return nil, statusError(err)
	}
	return &protos.EraseResponse{Deleted: int32(n)}, nil
}

func (s *operations) Explain(ctx context.Context, req *protos.ExplainRequest) (*protos.Verdict, error) {
	v, err := Explain(ctx, s.be, s.workers, api.InstanceID(req.GetInstanceId()))
	if err != nil {
		return nil, statusError(err)
	}
	return v.Proto(), nil
}

func (s *operations) Workers(context.Context, *protos.WorkersRequest) (*protos.WorkersResponse, error) {
	resp := &protos.WorkersResponse{}
	for _, w := range s.workers.Workers() {
		resp.Workers = append(resp.Workers, w.Proto())
	}
	return resp, nil
}

func (s *operations) Export(ctx context.Context, req *protos.ExportRequest) (*protos.InstanceBundle, error) {
	x, ok := s.be.(InstanceExporter)
	if !ok {
		return nil, statusError(fmt.Errorf("export %q: %w", req.GetInstanceId(), api.ErrUnsupported))
	}
	b, err := x.ExportInstance(ctx, api.InstanceID(req.GetInstanceId()))
	if err != nil {
		return nil, statusError(fmt.Errorf("export %q: %w", req.GetInstanceId(), err))
	}
	return b.Proto(), nil
}

func (s *operations) Import(ctx context.Context, p *protos.InstanceBundle) (*protos.ImportResponse, error) {
	id := p.GetInstance().GetState().GetInstanceId()
	x, ok := s.be.(InstanceImporter)
	if !ok {
		return nil, statusError(fmt.Errorf("import %q: %w", id, api.ErrUnsupported))
	}
	if err := x.ImportInstance(ctx, api.BundleFromProto(p)); err != nil {
		return nil, statusError(fmt.Errorf("import %q: %w", id, err))
	}
	return &protos.ImportResponse{}, nil
}
