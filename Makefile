# Passclave. `make` alone explains itself.

# The one toolchain that the measured binary is built with; Go fetches it where it is missing.
export GOTOOLCHAIN ?= go1.26.8
# Shipped binaries need no C library and contain no path and no commit of the build machine.
export CGO_ENABLED ?= 0
# But for the key broker: PKCS#11 libraries are C. Where there is a C compiler, it is built with
# PKCS#11, and needs the C library then; otherwise without. BROKER_CGO=0 decides that.
BROKER_CGO ?= $(if $(shell command -v gcc),1,0)

GO       ?= go
BIN      ?= bin
STATE    ?= ./state
FUZZTIME ?= 3s
MODEL    ?= full
PACKAGES ?= ./...

BUILD = $(GO) build -trimpath -buildvcs=false
# The enclave erases what handled a secret (runtime/secret), where the platform can.
ENCLAVE_EXPERIMENT = runtimesecret
# What a browser runs too.
WASM_PACKAGES = ./wire/... ./ledger ./attestation ./policy ./client/...

.DEFAULT_GOAL := help
.PHONY: help build hsm run demo sgx test model bench fuzz lint reproduce wasm-test claims clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z.-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

build: ## build everything into bin/ (BIN=FOLDER)
	@mkdir -p $(BIN)
	$(BUILD) -o $(BIN)/ $(filter-out ./cmd/passclave-enclave/ ./cmd/passclave-keybroker/,$(wildcard ./cmd/*/))
	CGO_ENABLED=$(BROKER_CGO) $(BUILD) -o $(BIN)/ ./cmd/passclave-keybroker
	GOEXPERIMENT=$(ENCLAVE_EXPERIMENT) $(BUILD) -o $(BIN)/passclave-enclave ./cmd/passclave-enclave

# KEYS=softhsm needs SoftHSM, and a broker that can use it.
hsm:
	@$(if $(filter softhsm,$(KEYS)),build/need gcc=gcc softhsm2-util=softhsm2)

run: hsm build ## start everything in simulation; its state stays in ./state (STATE=FOLDER; at the first start PLATFORM=tdx or sgx, LEDGER=endorsed, KEYS=softhsm; GENESIS=next where all endorsers were stopped)
	@exec $(BIN)/passclave up --state $(STATE) $(if $(PLATFORM),--platform $(PLATFORM)) $(if $(LEDGER),--ledger $(LEDGER)) $(if $(KEYS),--keys $(KEYS)) $(if $(filter next,$(GENESIS)),--next-genesis)

demo: hsm build ## tell the whole story in a temporary folder: each step must have exactly its result (LEDGER=endorsed tells more; KEYS=softhsm)
	@exec $(BIN)/passclave demo $(if $(LEDGER),--ledger $(LEDGER)) $(if $(KEYS),--keys $(KEYS))

sgx: ## build the enclave for SGX into bin/sgx (needs an ego-go with Go 1.26 or newer: EGO_GO=PATH)
	@EGO_GO="$(EGO_GO)" build/sgx $(BIN)/sgx

test: build ## run all tests (CI=true: with the race detector; installs Debian packages it needs, asking first)
	@build/need node=nodejs initdb=postgresql softhsm2-util=softhsm2 gcc=gcc
	$(if $(CI)$(shell command -v gcc),CGO_ENABLED=1) $(GO) test $(if $(CI),-race) $(PACKAGES)
	@$(MAKE) --no-print-directory wasm-test

wasm-test: ## run the client's tests as WebAssembly under node
	@build/wasm-test $(WASM_PACKAGES)

model: ## explore every order of events within the bounds of docs/model.md (MODEL=quick, full or deep)
	$(GO) test ./enclave -run '^TestModel' -v -timeout 180m -model $(MODEL)

js-mod: ## make js.mod and js.sum, what a browser builds with, from go.mod and go.sum
	@(cat go.mod; printf '\nreplace github.com/google/logger => ./third_party/google-logger-js\n') > js.mod
	@cp go.sum js.sum

bench: build ## measure (BENCH_JSON=FILE, BENCH_ACCOUNTS=N)
	$(BUILD) -o bin/bench/ ./cmd/passclave-enclave
	$(GO) run ./bench

fuzz: ## fuzz every decoder for FUZZTIME (3s)
	@build/fuzz $(FUZZTIME)

lint: ## gofmt and vet; staticcheck and govulncheck where they can be had
	@$(if $(shell command -v gcc),CGO_ENABLED=1) build/lint

reproduce: ## build the enclave twice, in two folders with two caches, and compare
	@GOEXPERIMENT=$(ENCLAVE_EXPERIMENT) build/reproduce

claims: ## break every check that docs/claims.md names and see its test fail
	$(if $(shell command -v gcc),CGO_ENABLED=1) $(GO) run ./docs/claimcheck

clean: ## remove what was built, not the state
	rm -rf $(BIN)
