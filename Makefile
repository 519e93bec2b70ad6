# Every target works on a fresh checkout of a machine with Go; generate and verify also need protoc.
GO       ?= go
GOLANGCI  = $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
PROTOS   ?= api/protos
SEEDS    ?= 10000
KILLS    ?= 200
FUZZTIME ?= 1m
SOAK     ?= 30m

# Packages that hold TestCrash and TestSimulation.
WHOLE     = $(addprefix ./,$(wildcard backend/backendtest))
CRASH     = ./backend/sqlite $(WHOLE)
SIM       = ./backend/internal/engine $(WHOLE)

.PHONY: help build test test-sdk lint fmt generate verify example bench bench-grpc crash sim fuzz soak

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

build: ## build everything
	$(GO) build ./...

test: ## run all tests with the race detector
	$(GO) vet ./...
	$(GO) test -race -timeout 14m ./...

test-sdk: ## run the official SDKs' applications against the server, on both stores (installs their packages)
	PERDURE_SDK_TESTS=require PERDURE_POSTGRES_TESTS=require $(GO) test -count=1 -v -timeout 14m ./tests/sdk -allstores

lint: ## formatting, vet and the linters of .golangci.yml
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GOLANGCI) run ./...

fmt: ## format the code
	gofmt -w .

generate: ## regenerate api/protos (needs protoc)
	GOBIN=$(CURDIR)/bin $(GO) install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
	GOBIN=$(CURDIR)/bin $(GO) install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.0
	PATH="$(CURDIR)/bin:$$PATH" protoc -I api/protos --go_out=$(PROTOS) --go_opt=paths=source_relative \
	  --go-grpc_out=$(PROTOS) --go-grpc_opt=paths=source_relative orchestrator_service.proto operations.proto

verify: ## check that nothing generated is stale: go.mod, api/protos, the golden API (needs protoc)
	$(GO) mod tidy -diff
	$(GO) mod verify
	$(GO) -C bench/sidecar vet .
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && \
	  $(MAKE) --no-print-directory generate PROTOS="$$fresh" && \
	  for f in "$$fresh"/*.go; do \
	    diff -I '^//.*protoc  *v' "$$f" "api/protos/$$(basename "$$f")" || exit 1; done
	$(GO) test -count=1 ./internal/archtest

example: ## run the order example
	$(GO) run ./examples/orders

bench: ## run every workload once
	@for w in W1 W2 W3 W4 W5 W6; do $(GO) run ./bench -w $$w || exit 1; done

bench-grpc: ## run W1 to W4 over gRPC with a Go and a JavaScript worker, beside durabletask-go's sidecar
	@for w in W1 W2 W3 W4; do for k in go js; do for s in perdure durabletask-go; do \
	  $(GO) run ./bench -grpc -w $$w -worker $$k -server $$s -timeout 180s || exit 1; done; done; done

crash: ## kill a child process KILLS times under load and check what it acknowledged
	$(GO) test -p 1 -count=1 -v -timeout 20m -run '^TestCrash$$' $(CRASH) -kills $(KILLS)

sim: ## explore SEEDS schedules of crashes and faults, and show that a broken rule is caught
	$(GO) test -p 1 -count=1 -v -timeout 60m -run '^TestSimulation' $(SIM) -seeds $(SEEDS)
	$(GO) test -count=1 -v -tags brokenrule -run '^TestSimulationCatchesBrokenEngine$$' ./backend/internal/engine
	$(if $(WHOLE),$(GO) test -count=1 -v -timeout 60m -run '^TestEntitySimulation$$' $(WHOLE) -entityseeds $(SEEDS))
	$(if $(WHOLE),$(GO) test -count=1 -v -tags brokenstore -run '^Test(Entity)?SimulationCatchesBrokenRule$$' $(WHOLE))

soak: ## run server, workers and clients at half load for SOAK
	$(GO) test -count=1 -v -timeout 0 -run '^TestSoak$$' ./server -soak $(SOAK)

fuzz: ## run each fuzz target for FUZZTIME
	@targets=$$(grep -roE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sed 's/:func /:/'); \
	  test -n "$$targets" || { echo "there are no fuzz targets yet" >&2; exit 1; }; \
	  for t in $$targets; do \
	    $(GO) test -run '^$$' -fuzz "^$${t##*:}\$$" -fuzztime $(FUZZTIME) "$$(dirname "$${t%%:*}")" || exit 1; done
