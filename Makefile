# make help lists what there is. Nothing here needs more than Go to build;
# make test installs what the checks need, when root, or says what to install.

SHELL := /bin/bash
.DEFAULT_GOAL := help

LINT := bin/golangci-lint
LINT_VERSION := v2.15.0

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: fmt
fmt: ## format the Go code
	gofmt -w $$(git ls-files '*.go')

.PHONY: build
build: ## build the static binary ./chappe
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o chappe .

.PHONY: test
test: lint tsc unit integration ## all checks, each with what it needs
	@test "$$(id -u)" = 0 && echo "all checks passed, nothing was skipped" || \
		echo "all checks passed; skipped, since it takes root to count bytes on the wire: TestIntegrationSeedBytes"

$(LINT):
	GOBIN=$(CURDIR)/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)

.PHONY: lint
lint: $(LINT) ## look for faults without running the code
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "gofmt would change: $$unformatted"; exit 1; }
	go vet -tags integration ./...
	GOOS=darwin go vet ./...
	cd bench && go vet ./...
	$(LINT) run --build-tags integration

node_modules: package.json package-lock.json
	@command -v npm >/dev/null || { echo "npm is missing: install the Debian packages nodejs and npm"; exit 1; }
	npm ci --silent
	@touch node_modules

.PHONY: tsc
tsc: node_modules ## check the types of the browser's modules
	npx tsc --noEmit -p jsconfig.json

.PHONY: gcc
gcc:
	@command -v gcc >/dev/null || .ci/install gcc libc6-dev

.PHONY: unit
unit: gcc ## tests without servers, with the race detector; what waits also on net/http, as where there is no epoll
	go test -race -shuffle=on ./...
	go test -race -shuffle=on -tags nethttp ./internal/loop ./front ./deliver/push/... ./deliver/gateway

.PHONY: integration
integration: gcc node_modules ## tests with real servers, a browser and foreign clients
	@command -v chromium >/dev/null || .ci/install chromium
	@command -v nginx >/dev/null || .ci/install nginx
	@/usr/bin/python3 -c 'import autobahn, websockets' 2>/dev/null || .ci/install python3-autobahn python3-websockets
	@test -x /usr/lib/dovecot/imap -a -x /usr/lib/dovecot/lmtp || .ci/install dovecot-imapd dovecot-lmtpd
	go test -race -shuffle=on -tags integration -run '^TestIntegration' -p 1 -timeout 15m . ./source/mailbox

.PHONY: fuzz
fuzz: ## fuzz each parser of foreign bytes for 20 seconds
	@for target in $$(grep -rhoE 'func Fuzz[A-Za-z]+' --include='*_test.go' . | sed 's/func //'); do \
		package=$$(dirname $$(grep -rlE "func $$target\\(" --include='*_test.go' .)); \
		go test $$package -run xxx -fuzz "^$$target\$$" -fuzztime 20s || exit 1; \
	done

.PHONY: bench
bench: ## measure beside peers; writes bench/RESULTS.md
	cd bench && ./run

.PHONY: bench-million
bench-million: ## hold a million connections on this machine, in many processes; some five minutes and 14 GB
	cd bench && ./run million
