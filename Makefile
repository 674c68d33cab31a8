# Everything here needs Go, make and git only. "make help" lists the targets.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# What the simulator runs in make sim and make test.
SEEDS ?= 100
FIRST ?= 1

# How long make fuzz stays with each target.
FUZZTIME ?= 10s

# Flags for "concordat bench", "concordat bench levels" and "concordat demo".
BENCHARGS ?=
LEVELARGS ?=
DEMOARGS ?=

# cgo only where there is a C compiler that works: Concordat does not need it.
export CGO_ENABLED := $(shell test "$$(go env CGO_ENABLED)" = 1 && go build -o /dev/null runtime/cgo \
	>/dev/null 2>&1 && echo 1 || echo 0)

# A build that names no directory of this machine is taken from the cache in every
# clone.
export GOFLAGS := $(strip $(GOFLAGS) -trimpath)

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# The deterministic packages, whose microbenchmarks make bench runs.
PURE := $(addprefix ./,$(sort $(dir $(wildcard $(addsuffix /*_test.go,\
	gtid certifier election flowcontrol applier/schedule gcs internal/replica\
	internal/wire internal/giant internal/outcome internal/statecheck internal/standing internal/outlook internal/contention internal/running internal/forced internal/consistency)))))

.PHONY: help
help: ## list the targets
	@awk -F ': .*## ' '/^[a-z]+: .*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

.PHONY: build
build: ## build bin/concordat
	@go build -buildvcs=false -ldflags '-X main.version=$(VERSION)' -o bin/concordat ./cmd/concordat

.PHONY: demo
demo: build ## run the story of a group of real members on this machine
	@bin/concordat demo $(DEMOARGS)

.PHONY: test
test: lint unit sim ## run every check: lint, unit, sim

# The tests of PLAIN run without the race detector, which has nothing to find
# there and makes them take several times as long: deterministic code starts no
# goroutine, which internal/house checks, and neither do its tests, but for
# those of internal/running. internal/house reads the code, one file after the other.
PLAIN := $(filter-out ./internal/running/,$(PURE)) ./internal/house

# The stores and the simulator are tested whole without it, and with it but for what
# is long and one goroutine: sequences of calls beside a model, power lost at each
# call, files damaged at each place, and worlds. "make sim" runs those of TestSweep.
STORES := ./gcs/raftlog ./applier/pebblekv ./examples/memengine
ALONE := '^Test(Crash.*|Flipped.*|OpenErrors|ExportSeek|ChangesRetention|ConformanceOfChanges|Prepared(|Crash|Changes|Leaves))$$|^TestConformance$$/^(Crash.*|Model|random_calls)$$|^TestConformance$$/.*/^CrashPoints$$'
SWEEP := '^TestSweep$$'

# The race detector needs cgo. Without it the tests run all the same, and say
# so. Tests of members mostly wait, for elections, for the disk, and for what silence
# has to tell: six at a time of each of two packages keep two processors busy. The
# longest come first, lest one processor wait for them in the end.
LONGEST := . ./cmd/concordat ./bench

.PHONY: unit
unit: ## run the tests of all packages, with the race detector where it works
	@if why=$$(go build -race -o /dev/null runtime/race runtime/cgo 2>&1); then \
		echo '== tests, with the race detector where there are goroutines'; race=-race; \
	else \
		echo "== tests, WITHOUT the race detector, which does not build here: $$why"; race=; \
	fi; \
	plain=$$(go list $(PLAIN) ./sim) && raced=$$(go list ./... | grep -vxF "$$plain") || exit 1; \
	failed=0; \
	go test -timeout 8m -skip $(SWEEP) $$plain $(STORES) || failed=1; \
	go test $$race -timeout 8m -run $(SWEEP) ./sim || failed=1; \
	go test $$race -p 2 -parallel 6 -timeout 8m -skip $(ALONE) $(LONGEST) $$raced || failed=1; \
	exit $$failed
	@go -C tools test ./...

.PHONY: sim
sim: build ## run SEEDS simulated worlds from seed FIRST on
	@echo '== simulator, $(SEEDS) worlds from seed $(FIRST)'
	@bin/concordat sim --seeds $(SEEDS) --first $(FIRST)

.PHONY: lint
lint: bin/golangci-lint ## vet, lint, check formatting and generated code
	@echo '== go vet'
	@go vet ./...
	@go -C tools vet ./...
	@echo '== generated code'
	@go -C tools run ./protogen -check
	@echo '== golangci-lint'
	@bin/golangci-lint run ./...
	@cd tools && ../bin/golangci-lint run ./...

.PHONY: fmt
fmt: bin/golangci-lint ## format all Go code
	@bin/golangci-lint fmt

.PHONY: generate
generate: ## write the Go code of proto/ anew
	@go -C tools run ./protogen

.PHONY: bench
bench: build ## measure commits with real fsync, consistency levels, and the deterministic packages
	@bin/concordat bench $(BENCHARGS)
	@bin/concordat bench levels $(LEVELARGS)
	@bin/concordat bench apply
	@bin/concordat bench check
	@bin/concordat bench flow
	@bin/concordat bench changes
	@bin/concordat bench giant
	@go test -run '^$$' -bench . -benchmem $(PURE)

.PHONY: fuzz
fuzz: ## fuzz each decoder and parser for FUZZTIME
	@for pkg in $$(go list ./...); do \
		targets=$$(go test -list '^Fuzz' $$pkg) || { echo "$$targets"; exit 1; }; \
		for target in $$(echo "$$targets" | grep '^Fuzz'); do \
			echo "== $$pkg $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
		done; \
	done

.PHONY: faults
faults: ## plant known faults in a copy, and check that the simulator finds each
	@go -C tools run ./faults

.PHONY: clean
clean: ## remove what was built
	@rm -rf bin

# The linter is pinned by a module of its own, which never enters the module
# graph of a program that embeds Concordat. It is built once, and again when
# that module changes.
bin/golangci-lint: tools/lint/go.mod tools/lint/go.sum
	@echo '== building golangci-lint, once: this takes a minute or two'
	@go -C tools/lint build -o ../../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint || { \
		echo 'make: golangci-lint cannot be built. Its first build downloads it from the Go module' >&2; \
		echo 'make: proxy: connect once and run "make lint". "make unit sim" tests without linting.' >&2; \
		exit 1; }
	@touch $@
