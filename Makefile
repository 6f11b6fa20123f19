# `make` alone lists the targets.
SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO          ?= go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.7.0

# The race detector needs cgo and a C compiler. Without them the tests still
# run, and the skip is said aloud.
RACE := $(shell command -v $$($(GO) env CC) >/dev/null 2>&1 && [ "$$($(GO) env CGO_ENABLED)" = 1 ] && echo -race)

.PHONY: help build build-usb deb release man test lint bench demo schema fuzz clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/labctl and bin/labsim, static
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/...

build-usb: ## bin/labctl-usb, with hid watch; needs gcc, pkg-config and libusb-1.0-0-dev
	CGO_ENABLED=1 $(GO) build -trimpath -tags usb -o bin/labctl-usb ./cmd/labctl

deb: ## dist/*.deb for Debian and Raspberry Pi OS: amd64, arm64, armhf; needs dpkg-deb
	@$(GO) run ./configs/pack deb

release: ## dist/: static binaries for six platforms, checksums, a bill of materials
	@$(GO) run ./configs/pack release

man: ## build/man: the manual pages; read one with man -l
	@$(GO) run ./configs/pack -out build/man man

lint: ## gofmt, vet, staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')); \
	if [ -n "$$unformatted" ]; then echo "not gofmt-ed:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

# Most tests wait for processes of their own, so more of them than processors run
# side by side. Those of hid/kerneltest boot a Debian kernel in QEMU and measure
# time inside it, so they come last and have the machine to themselves; what of
# Debian's they need beyond QEMU they fetch into the user's cache, without root.
KERNELTEST := hid/kerneltest

# What the tests need beside Go: a program or file, and the Debian package it is in.
TESTS_NEED := qemu-system-x86_64=qemu-system-x86 sshd=openssh-server ssh=openssh-client \
  debootstrap=debootstrap lintian=lintian qemu-aarch64-static=qemu-user-static \
  /usr/include/X11/keysymdef.h=x11proto-dev /usr/share/X11/xkb/symbols/us=xkb-data

test: ## all tests, with the race detector where there is a C compiler
	@[ -n "$(RACE)" ] || echo "*** no C compiler or no cgo: the race detector is SKIPPED ***"
	@missing=; for p in $(TESTS_NEED); do [ -e "$${p%=*}" ] || PATH=$$PATH:/usr/sbin command -v "$${p%=*}" >/dev/null || missing="$$missing $${p#*=}"; done; \
	if [ -n "$$missing" ] && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  echo "installing for the tests:$$missing"; apt-get update -q || true; \
	  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing || true; \
	elif [ -n "$$missing" ]; then echo "*** not here, and not installable without root and apt:$$missing; tests that need them are SKIPPED ***"; fi
	@export LABCTL_SKIPPED=$$(mktemp); trap 'rm -f "$$LABCTL_SKIPPED"' EXIT; code=0; \
	$(GO) test $(RACE) -parallel 6 -timeout 30m $$($(GO) list ./... | grep -v '/$(KERNELTEST)$$') || code=$$?; \
	$(GO) test -timeout 40m ./$(KERNELTEST) || code=$$?; \
	if [ -s "$$LABCTL_SKIPPED" ]; then echo "*** SKIPPED, so this run proves less than it could:"; sed 's/^/***   /' "$$LABCTL_SKIPPED"; fi; \
	exit $$code

bench: ## figures against their limits: migrations beside govc, recipes, keyboard, VCHs
	$(GO) run ./bench $(BENCHFLAGS)

demo: build ## a move, a rescue, and a VCH, on the simulated homelab
	./docs/demo.sh

schema: ## write the JSON schemas in configs/ anew
	$(GO) test ./cmd/labctl -run '^Test(Recipe|Output)?Schemas?(Is|Are)Current$$' -update

fuzz: ## fuzz each parser for half a minute
	@$(GO) list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./... | while read -r pkg; do \
	  for f in $$($(GO) test -list '^Fuzz' "$$pkg" | grep '^Fuzz' || true); do \
	    $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime 30s -fuzzminimizetime 10x "$$pkg"; \
	  done; \
	done

clean: ## remove what was built
	rm -rf bin dist build
