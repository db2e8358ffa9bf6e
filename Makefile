# From clone to green: `make check`. It needs Go and the Postgres server binaries, nothing else; CI runs the same.

.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

# Knobs: make test TIMEOUT=5m PKG=./jobs/... ARGS='-run Claim -v'
PKG ?= ./...
TIMEOUT ?= 20m
# Packages tested at a time; each brings a Postgres of its own.
PARALLEL ?= 2
FUZZTIME ?= 30s
ARGS ?=

SQLC := bin/sqlc
LINT := bin/golangci-lint

# The race detector needs cgo and a C compiler.
RACE = $(shell test "$$(go env CGO_ENABLED)" = 1 && command -v $(firstword $(shell go env CC)) >/dev/null 2>&1 && echo -race)

##@ Everyday

.PHONY: help
help: ## List every target
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z][a-z\/-]*:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: ## Build bin/tasker and bin/taskerbench
	go build -trimpath -o bin/ ./cmd/tasker ./cmd/taskerbench

.PHONY: run
run: ## Run tasker; without DATABASE_URL it brings its own Postgres (ARGS='task list')
	go run ./cmd/tasker $(ARGS)

.PHONY: bench
bench: ## Run the load generator and print its table (ARGS=...)
	go run ./cmd/taskerbench $(ARGS)

.PHONY: fmt
fmt: $(LINT) ## Format the code and repair what linters can repair
	$(LINT) fmt
	$(LINT) run --fix || true

.PHONY: generate
generate: $(SQLC) ## Generate db/dbsqlc from queries/ and the migrations; dashboards and metrics reference from the catalogue
	$(SQLC) generate
	go run ./deploy/internal/generate

.PHONY: tidy
tidy: ## Tidy go.mod, also the tools'
	go mod tidy
	cd tools/sqlc && go mod tidy
	cd tools/lint && go mod tidy
	cd tools/promtest && go mod tidy

.PHONY: clean
clean: ## Remove what make has built (a development database in .tasker/ stays)
	rm -rf bin

##@ Checks

.PHONY: check
check: check/fmt check/vet lint check/sqlc check/tidy check/deploy test ## Everything that CI checks: run it before you push

.PHONY: check/fmt
check/fmt: $(LINT) ## Fail if a file is not formatted
	$(LINT) fmt --diff

.PHONY: check/vet
check/vet: ## Run go vet
	go vet ./...

.PHONY: lint
lint: $(LINT) ## Run golangci-lint
	$(LINT) config verify
	$(LINT) run

.PHONY: check/sqlc
check/sqlc: $(SQLC) ## Fail if db/dbsqlc is not what queries/ and the migrations generate
	$(SQLC) diff

.PHONY: check/tidy
check/tidy: ## Fail if go.mod or go.sum is not tidy
	go mod tidy -diff
	cd tools/promtest && go mod tidy -diff

.PHONY: check/deploy
check/deploy: ## Fail if dashboards, alerts or documents name metrics that do not exist, or are not what the catalogue generates
	go run ./deploy/internal/generate -check
	@# Go's cache does not see the files outside of the module.
	cd tools/promtest && go vet ./... && go test -count=1 ./...

.PHONY: test
test: ## Run the tests with the race detector (PKG=./jobs/... TIMEOUT=5m ARGS='-run Claim -v')
	@test -n '$(RACE)' || echo 'make test: no cgo or no C compiler: running WITHOUT the race detector' >&2
	go test $(RACE) -shuffle=on -p $(PARALLEL) -timeout $(TIMEOUT) $(ARGS) $$(go list $(PKG) | grep -v /internal/chaostest)
	@# Alone, and two at a time: it kills processes and measures how soon others take over.
	$(if $(filter ./...,$(PKG)),go test $(RACE) -shuffle=on -p 1 -parallel 2 -timeout $(TIMEOUT) $(ARGS) ./internal/chaostest)

.PHONY: test/short
test/short: ## Run the tests that need no patience (go test -short, no race detector)
	go test -short -p $(PARALLEL) -timeout $(TIMEOUT) $(ARGS) $(PKG)

.PHONY: chaos
chaos: ## Kill processes and servers under load, for up to an hour
	CHAOS=long go test -v -count=1 -run Chaos -timeout 60m $(ARGS) ./internal/chaostest/...

.PHONY: fuzz
fuzz: ## Fuzz every target for FUZZTIME (30s) each
	@{ grep -rEo --include='*_test.go' --exclude-dir=tools '^func Fuzz[A-Za-z0-9_]+' . || true; } | sort | \
	while IFS=: read -r file func; do \
		echo "== $$(dirname "$$file") $${func#func }"; \
		go test -run '^$$' -fuzz "^$${func#func }\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x "$$(dirname "$$file")" </dev/null || exit 1; \
	done

##@ Tools

# In modules of their own, so that who imports tasker gets none of their dependencies. Without cgo: sqlc would compile
# Postgres' parser for many minutes instead of using the one in WebAssembly.

$(SQLC): tools/sqlc/go.mod tools/sqlc/go.sum
	cd tools/sqlc && CGO_ENABLED=0 go build -o ../../$@ github.com/sqlc-dev/sqlc/cmd/sqlc
	@touch $@

$(LINT): tools/lint/go.mod tools/lint/go.sum
	cd tools/lint && CGO_ENABLED=0 go build -o ../../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

.PHONY: tools
tools: $(SQLC) $(LINT) ## Build sqlc and golangci-lint into bin/
