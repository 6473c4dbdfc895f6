# `make help` lists what there is. Only Go is needed for run, build and test; the tools of `make check` are fetched as Go
# modules, pinned in tools/go.mod.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO ?= go
TOOL := $(GO) tool -modfile=tools/go.mod
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.0.0-dev)
IMAGE ?= doubledutch
# Executions, not seconds: at the end of a duration a target can fail that has found nothing (go.dev/issue/75804, before Go 1.27).
FUZZTIME ?= 2000x
BENCH ?= .
BENCHTIME ?= 1s

# Packages that are single-threaded by construction and heavy on computing: the race detector has nothing to find there. And the
# simulation, whose virtual hours would take real ones, with internal/node running the same code under the race detector; and
# the torture, whose checkers would take too long under it; and the counts, which it would change.
NO_RACE := /internal/locktable$$|/internal/command$$|/internal/simulation$$|/test/torture$$|/test/counts$$
# The race detector needs a C compiler. Without one the tests run without it, and say so.
RACE := $(if $(filter 1,$(shell $(GO) env CGO_ENABLED)),-race)
# Not from the cache: it does not know what the programs that the tests build and run are made of.
TESTFLAGS ?= -timeout 9m -count=1
PKGS ?= ./...
# A module of its own: the drivers of databases are no dependencies of the product.
FENCING := test/fencing
IN_FENCING := cd $(FENCING) && $(GO) tool -modfile=../../tools/go.mod
# Another one, for the clients of those with whom we compare ourselves.
BENCH_PEERS := bench
IN_BENCH := cd $(BENCH_PEERS) && $(GO) tool -modfile=../tools/go.mod
# Where built programs go.
BIN := bin

.PHONY: run build test check fmt-check vet staticcheck errcheck deadcode tidy-check proto proto-check golden bench bench-failover bench-peers bench-scale bench-test fuzz simulate torture image clean help

# Not `go run`: that ends with an error when Ctrl-C has stopped the server in peace.
run: ## start a server in this directory
	@$(GO) build -o $(BIN)/doubledutch ./cmd/doubledutch && exec $(BIN)/doubledutch serve

build: ## build bin/doubledutch, a static binary
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.buildVersion=$(VERSION)' -o $(BIN)/doubledutch ./cmd/doubledutch

test: ## run all tests of PKGS, concurrent packages under the race detector
	@$(if $(RACE),,echo 'no C compiler: the tests run without the race detector')
	@$(GO) build -C tools -o ../$(BIN)/testsum ./testsum
	@all=$$($(GO) list $(PKGS)); \
	heavy=$$(grep -E '$(NO_RACE)' <<<"$$all" || true); \
	racy=$$(grep -vE '$(NO_RACE)' <<<"$$all" || true); \
	tests() { \
		status=0; \
		[ -z "$$racy" ] || $(GO) test -json $(RACE) $(TESTFLAGS) $$racy || status=1; \
		[ -z "$$heavy" ] || $(GO) test -json $(TESTFLAGS) $$heavy || status=1; \
		[ -z "$$(grep simulation <<<"$$heavy")" ] || $(GO) test -json $(RACE) -short $(TESTFLAGS) ./internal/simulation || status=1; \
		$(GO) test -C tools -json ./... || status=1; \
		[ "$(PKGS)" != ./... ] || $(GO) test -C $(FENCING) -json $(TESTFLAGS) ./... || status=1; \
		[ "$(PKGS)" != ./... ] || $(GO) test -C $(BENCH_PEERS) -json -short $(TESTFLAGS) ./... || status=1; \
		return $$status; \
	}; \
	tests | $(BIN)/testsum

check: fmt-check vet staticcheck errcheck deadcode tidy-check proto-check ## everything that is checked without running the product

fmt-check: ## all files are formatted
	@bad=$$($(TOOL) gofumpt -l .); \
	if [ -n "$$bad" ]; then echo "gofumpt would change:"; echo "$$bad"; exit 1; fi

vet: ## go vet
	$(GO) vet ./...
	$(GO) vet -C tools ./...
	$(GO) vet -C $(FENCING) ./...
	$(GO) vet -C $(BENCH_PEERS) ./...

staticcheck: ## staticcheck
	$(TOOL) staticcheck ./...
	$(IN_FENCING) staticcheck ./...
	$(IN_BENCH) staticcheck ./...

errcheck: ## no error is dropped without saying so, but for tools/errcheck.txt
	$(TOOL) errcheck -exclude tools/errcheck.txt ./...
	$(IN_FENCING) errcheck ./...
	$(IN_BENCH) errcheck ./...

deadcode: ## nothing is unreachable, tests counted as callers
	@dead=$$($(TOOL) deadcode -test ./...); \
	if [ -n "$$dead" ]; then echo "unreachable:"; echo "$$dead"; exit 1; fi

tidy-check: ## go.mod and go.sum say what is used
	$(GO) mod tidy -diff
	$(GO) mod tidy -C tools -diff
	$(GO) mod tidy -C $(FENCING) -diff
	$(GO) mod tidy -C $(BENCH_PEERS) -diff
	$(GO) mod verify

PROTOS := $(sort $(wildcard internal/command/*.proto))
proto: ## generate the .pb.go files beside the .proto files of internal/command
	@mkdir -p $(BIN)
	@$(GO) build -modfile=tools/go.mod -o $(BIN)/protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go
	protoc --plugin=$(BIN)/protoc-gen-go --go_out=. --go_opt=paths=source_relative $(PROTOS)

proto-check: ## the generated code is up to date (needs protoc)
	@command -v protoc >/dev/null || { echo 'no protoc: generated code not checked'; exit 0; }; \
	$(GO) build -modfile=tools/go.mod -o $(BIN)/protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go; \
	dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	protoc --plugin=$(BIN)/protoc-gen-go --go_out="$$dir" --go_opt=paths=source_relative $(PROTOS); \
	for file in $(PROTOS:.proto=.pb.go); do \
		diff -u <(grep -v 'protoc  *v' "$$file") <(grep -v 'protoc  *v' "$$dir/$$file") || { echo 'run make proto'; exit 1; }; \
	done

golden: ## write the golden files of a new version of the log (test/golden), never over those that are there
	$(GO) test ./internal/command ./internal/locktable ./internal/node -run 'Released' -args -update-golden

bench: ## run the benchmarks that BENCH selects
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -benchtime $(BENCHTIME) $(PKGS)

fuzz: ## run every fuzz target for FUZZTIME
	@for pkg in $$($(GO) list $(PKGS)); do \
		for target in $$($(GO) test -list '^Fuzz' "$$pkg" | grep '^Fuzz' || true); do \
			echo "$$pkg $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x "$$pkg"; \
		done; \
	done

HOURS ?= 8
SEED ?= 1
simulate: ## run clusters for HOURS of virtual time with faults, with seeds from SEED on
	$(GO) test ./internal/simulation -run '^TestSimulation$$' -v -timeout 0 -simulate.first=$(SEED) -simulate.seeds=$$(( $(HOURS) * 2 )) -simulate.minutes=30

MINUTES ?= 10
torture: ## break a cluster of real processes for MINUTES, and restart its nodes under the Go client for as long
	$(GO) test ./test/torture -run '^(TestTorture|TestClientHoldsThroughRollingRestarts)$$' -v -timeout 0 \
		-torture.minutes=$(MINUTES) -torture.rolling=$(MINUTES)

bench-failover: ## measure how long the end of a leader is felt
	$(GO) test ./test/torture -run '^$$' -bench Failover -benchtime 20x -timeout 0

bench-peers: ## measure others at the same work (Redis, etcd, PostgreSQL, MariaDB, ZooKeeper) into docs/performance.md, 10 minutes
	cd $(BENCH_PEERS) && $(GO) run . -root ..

bench-scale: ## measure a million locks, ten thousand waiters and the like into docs/performance.md, 6 minutes
	cd $(BENCH_PEERS) && $(GO) run . -scale

bench-test: ## do the locks of those others exclude, as bench-peers uses them? What is not installed is skipped
	$(GO) test -C $(BENCH_PEERS) ./...

image: ## build the container image
	docker build --build-arg VERSION=$(VERSION) -t $(IMAGE) .

clean: ## remove what was built
	rm -rf $(BIN)

help: ## list what there is
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14
