# Every target works on a fresh checkout of a machine with Go.
GO ?= go
GOLANGCI = $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
SEEDS ?= 10000
KILLS ?= 200

.PHONY: help build test lint fmt generate example bench crash sim fuzz

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

build: ## build everything
	$(GO) build ./...

test: ## run all tests with the race detector
	$(GO) vet ./...
	$(GO) test -race -timeout 14m ./...

lint: ## formatting, vet and the linters of .golangci.yml
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GOLANGCI) run ./...

fmt: ## format the code
	gofmt -w .

generate: ## regenerate api/protos (needs protoc)
	GOBIN=$(CURDIR)/bin $(GO) install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
	GOBIN=$(CURDIR)/bin $(GO) install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.0
	PATH="$(CURDIR)/bin:$$PATH" protoc -I api/protos --go_out=api/protos --go_opt=paths=source_relative \
	  --go-grpc_out=api/protos --go-grpc_opt=paths=source_relative orchestrator_service.proto

example: ## run the order example
	$(GO) run ./examples/orders

bench: ## run every workload once
	@for w in W1 W2 W3 W4 W5 W6; do $(GO) run ./bench -w $$w || exit 1; done

crash: ## kill a child process KILLS times under load and check what it acknowledged
	$(GO) test -count=1 -v -timeout 20m -run '^TestCrash$$' ./backend/sqlite -kills $(KILLS)

sim: ## explore SEEDS schedules of crashes and faults, and show that a broken rule is caught
	$(GO) test -count=1 -v -timeout 60m -run '^TestSimulation' ./backend/internal/engine -seeds $(SEEDS)
	$(GO) test -count=1 -v -tags brokenrule -run '^TestSimulationCatchesBrokenEngine$$' ./backend/internal/engine
