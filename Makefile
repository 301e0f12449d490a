# greenloom. The two set-up commands:
#
#   make serve    builds everything into this checkout, serves the showcase on http://127.0.0.1:9090
#   make test     installs what the tests need (further versions of CPython, too), runs every test, ends
#                 with "N passed, N failed"
#
# Needed beforehand: Rust (cargo with clippy and rustfmt), a C linker, Python 3.11 or newer with venv.
# PYTHON=/path/to/python3 chooses the interpreter, VENV=dir the virtual environment.

VENV ?= .venv
PYTHON ?=
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := $(VENV)/bin
APT := env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
export VENV
# Debian's nginx lies where only root looks.
export PATH := $(PATH):/usr/sbin:/sbin

.PHONY: help serve build test bench bench-waiting bench-switching bench-gevent bench-asyncio bench-files bench-scripts soak storm cycles options clean need-rust debian-nginx debian-postgresql debian-redis debian-chromium debian-bench

help:
	@echo 'make serve          build, then serve the showcase on http://127.0.0.1:9090'
	@echo 'make test           install what the tests need and run every test'
	@echo 'make interpreters   environments for the further versions of CPython that make test needs'
	@echo 'make autobahn       the fuzzing client for websockets, where there is a CPython 2.7 (PYTHON2=...)'
	@echo 'make test-debug-python  the contract tests on Debian'"'"'s debug build of CPython'
	@echo 'make build          the virtual environment $(VENV) with greenloom in it'
	@echo 'make bench          greenloom and its peers, measured in one run'
	@echo 'make bench-waiting  what slow, idle and sleeping requests cost'
	@echo 'make bench-switching  what a switch, a core and a suspended request cost'
	@echo 'make bench-gevent   the gevent loop engine beside gunicorn, uWSGI and bjoern'
	@echo 'make bench-asyncio  the loops of asyncio'"'"'s interface beside bjoern, uWSGI, uvicorn and granian'
	@echo 'make bench-files    static files, under each engine and without Python, beside nginx and uWSGI'
	@echo 'make bench-scripts  CGI scripts beside uWSGI, many at once, and large output'
	@echo 'make soak           a million random requests through one server (SOAK_ARGS=--engine ugreen)'
	@echo 'make storm          reloads, upgrades, recycling and deaths under load, every byte counted (STORM_ARGS=--short)'
	@echo 'make cycles         a thousand starts and stops, and what they leave behind: nothing (CYCLES_ARGS=--cycles 100)'
	@echo 'make options        write the generated parts of the documents anew'
	@echo 'make clean          remove $(VENV), all other environments and the build output'

serve: build $(VENV)/.showcase
	exec $(BIN)/greenloom --ini examples/showcase/showcase.ini

build: need-rust $(VENV)/.build
	cargo xtask wheel

# The executable without an interpreter.
.PHONY: plain
plain: need-rust
	cargo build --release --package greenloom-cli --bin greenloom

test: need-rust $(VENV)/.build $(VENV)/.tests debian-nginx debian-postgresql debian-redis debian-chromium autobahn interpreters
	cargo xtask ci

# Debian's CPython with assertions, and an extension module and greenlet built against it.
.PHONY: test-debug-python debian-dbg
test-debug-python: need-rust debian-dbg
	@$(MAKE) --no-print-directory VENV=.venv-dbg PYTHON=/usr/bin/python3-dbg .venv-dbg/.build .venv-dbg/.contract
	VENV=.venv-dbg cargo xtask wheel
	.venv-dbg/bin/python -m pytest -q -ra tests/contract $(TEST_ARGS)

bench: build debian-bench benches/.venv/.peers
	$(BIN)/python benches/http.py $(BENCH_ARGS)

bench-waiting: build debian-bench
	$(BIN)/python benches/waiting.py $(BENCH_ARGS)

bench-switching: build $(VENV)/.tests debian-bench
	$(BIN)/python benches/switching.py $(BENCH_ARGS)

bench-gevent: build $(VENV)/.tests debian-bench benches/.venv/.peers
	$(BIN)/python benches/gevent.py $(BENCH_ARGS)

bench-asyncio: build $(VENV)/.tests debian-bench benches/.venv/.peers
	$(BIN)/python benches/on_asyncio.py $(BENCH_ARGS)

bench-files: build plain $(VENV)/.tests debian-bench debian-nginx benches/.venv/.peers
	$(BIN)/python benches/files.py $(BENCH_ARGS)

bench-scripts: build plain $(VENV)/.tests debian-bench benches/.venv/.peers benches/.venv-cgi/.peers
	$(BIN)/python benches/scripts.py $(BENCH_ARGS)

soak: build
	$(BIN)/python benches/soak.py $(SOAK_ARGS)

storm: build $(VENV)/.tests
	$(BIN)/python -m tests.storm $(STORM_ARGS)

cycles: build
	$(BIN)/python benches/cycles.py $(CYCLES_ARGS)

options:
	cargo xtask options

clean:
	rm -rf $(VENV) .venv-* .interpreters benches/.venv benches/.venv-cgi
	cargo clean

# ---- what the rules above stand on ---------------------------------------------------------------

# Says what is missing and how to get it, instead of a compiler's riddle.
need-rust:
	@missing() { printf '\ngreenloom: %s\n\n' "$$1" >&2; exit 1; }; \
	command -v cargo >/dev/null || missing 'Rust is missing: install cargo $(RUST_VERSION) or newer (rustup)'; \
	have=$$(cargo --version | cut -d' ' -f2); \
	first=$$(printf '%s\n' "$(RUST_VERSION)" "$$have" | sort -V | head -n1); \
	[ "$$first" = "$(RUST_VERSION)" ] || missing "cargo $$have is too old: $(RUST_VERSION) or newer is needed"; \
	command -v cc >/dev/null || missing 'a C linker (cc) is missing. Debian: apt-get install gcc libc6-dev'

RUST_VERSION := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

# The first of these that is at least 3.11 and can make virtual environments.
$(BIN)/python:
	@for python in $(if $(PYTHON),"$(PYTHON)",python3 python3.14 python3.13 python3.12 python3.11); do \
	  if "$$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "$$python -m venv $(VENV)"; "$$python" -m venv "$(VENV)"; exit; \
	  fi; \
	done; \
	printf '\ngreenloom: no Python 3.11 or newer with venv among: %s\n' \
	  '$(or $(PYTHON),python3, python3.14, python3.13, python3.12, python3.11)' >&2; \
	printf 'Debian: apt-get install python3 python3-venv. Elsewhere: make %s PYTHON=/path/to/python3\n\n' \
	  '$(MAKECMDGOALS)' >&2; exit 1

$(VENV)/.build: requirements/build.txt | $(BIN)/python
	$(PIP) install -r $<
	@touch $@

$(VENV)/.showcase: examples/requirements.txt requirements/showcase.txt | $(BIN)/python
	$(PIP) install -r examples/requirements.txt -c requirements/showcase.txt
	@touch $@

$(VENV)/.tests: tests/requirements.txt tests/contract/requirements.txt examples/requirements.txt requirements/showcase.txt | $(BIN)/python
	$(PIP) install -r $<
	@touch $@

$(VENV)/.contract: tests/contract/requirements.txt | $(BIN)/python
	$(PIP) install -r $<
	@touch $@

# A virtual environment .venv-3.X for each further CPython; one that is required and absent is fetched.
# A machine where that is impossible is told so by xtask, which in CI takes it for a failure.
.PHONY: interpreters
interpreters: need-rust $(BIN)/python
	@cargo xtask interpreters | while read -r what version; do \
	  [ "$$what" != missing ] || .ci/debian-python "$$version" ".interpreters/$$version" </dev/null || true; \
	done
	@cargo xtask interpreters | while read -r version python; do \
	  [ "$$version" = missing ] || $(MAKE) --no-print-directory VENV=".venv-$$version" PYTHON="$$python" \
	    ".venv-$$version/.contract" </dev/null; \
	done

# The fuzzing client for websockets runs on CPython 2.7 alone, which Debian has no more. Without it the tests that need
# it are skipped, which in CI is a failure.
PYTHON2 ?=
PYENV_VERSIONS := $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions
.PHONY: autobahn
autobahn:
	@for python in $(if $(PYTHON2),"$(PYTHON2)",python2.7 "$(PYENV_VERSIONS)"/2.7*/bin/python); do \
	  if "$$python" -c 'import pip, sys; sys.exit(sys.version_info[:2] != (2, 7))' 2>/dev/null; then \
	    $(MAKE) --no-print-directory PYTHON2="$$python" .venv-autobahn/.installed; exit; \
	  fi; \
	done; \
	printf '\ngreenloom: no CPython 2.7 with pip: the websocket cases of Autobahn will not be tested (%s)\n\n' \
	  'pyenv install 2.7.18, or PYTHON2=/path/to/python2.7' >&2

# virtualenv 20.15.1 is the last that makes environments of 2.7.
.venv-autobahn/.installed: requirements/autobahn.txt
	@echo 'pip install -r $< (CPython 2.7)'
	@tools=$$(mktemp -d); trap 'rm -rf "$$tools"' EXIT; \
	quiet() { "$$@" >"$$tools/log" 2>&1 || { cat "$$tools/log" >&2; exit 1; }; }; \
	quiet "$(PYTHON2)" -m pip --disable-pip-version-check install --target "$$tools/lib" virtualenv==20.15.1; \
	PYTHONPATH="$$tools/lib" quiet "$(PYTHON2)" -m virtualenv --clear --no-periodic-update .venv-autobahn; \
	quiet .venv-autobahn/bin/python -m pip --disable-pip-version-check install --no-deps -r $<; \
	quiet .venv-autobahn/bin/python -c 'import autobahntestsuite.wstest'
	@touch $@

PEERS := benches/.venv/bin/python
PEERS_PIP := $(PEERS) -m pip --disable-pip-version-check --quiet install

# One uWSGI with gevent, its default, with cgi, and with asyncio and greenlet where its asyncio works. They need greenlet's
# header, and neither pip's cache nor what is installed may stand in for this build.
benches/.venv/.peers: benches/requirements.txt | $(BIN)/python
	$(BIN)/python -m venv benches/.venv
	$(PEERS_PIP) greenlet -c $<
	@export UWSGI_EMBED_PLUGINS=cgi; \
	if $(PEERS) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then \
	  UWSGI_EMBED_PLUGINS+=,asyncio,greenlet; \
	  export CFLAGS="-I$$($(PEERS) -c 'import sysconfig; print(sysconfig.get_path("platlib"))')"; \
	else \
	  printf '\ngreenloom: %s\n\n' 'uWSGI --asyncio is left out of the peers: it dies at the start from CPython 3.12 on' >&2; \
	fi; \
	echo "pip install uWSGI with the plugins gevent,$$UWSGI_EMBED_PLUGINS"; \
	$(PEERS_PIP) --no-deps --force-reinstall --no-cache-dir --no-binary uWSGI uWSGI -c $<
	$(PEERS_PIP) -r $<
	@touch $@

# uWSGI as its makers build it for scripts: with cgi, without Python.
benches/.venv-cgi/.peers: benches/requirements.txt | $(BIN)/python
	$(BIN)/python -m venv benches/.venv-cgi
	@echo "pip install uWSGI with the profile cgi"
	UWSGI_PROFILE=cgi benches/.venv-cgi/bin/python -m pip --disable-pip-version-check --quiet install \
	  --no-deps --force-reinstall --no-cache-dir --no-binary uWSGI uWSGI -c $<
	@touch $@

comma := ,

# $(call debian,test,packages): installs Debian packages unless the test succeeds.
define debian
	@if ! { $(1); } >/dev/null; then \
	  command -v apt-get >/dev/null || { echo 'greenloom: missing: install $(2)' >&2; exit 1; }; \
	  sudo=; if [ "$$(id -u)" != 0 ]; then \
	    command -v sudo >/dev/null || { \
	      echo 'greenloom: missing. As root: apt-get install $(2)' >&2; exit 1; }; \
	    sudo=sudo; \
	  fi; \
	  echo "apt-get install $(2)"; \
	  $$sudo $(APT) -qq update; $$sudo $(APT) -qq install -y --no-install-recommends $(2) >/dev/null; \
	fi
endef

debian-nginx:
	$(call debian,command -v nginx,nginx)

debian-postgresql:
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { \
	  echo 'apt-get install postgresql'; \
	  if [ "$$(id -u)" = 0 ]; then .ci/debian-postgresql; else sudo .ci/debian-postgresql; fi; \
	}

# Its server is the checker of redis-tools under another name (tests/harness/redis.py), without the service of redis-server.
debian-redis:
	$(call debian,command -v redis-server || command -v redis-check-rdb,redis-tools)

# The smallest of Debian's: no window, no driver, no desktop; an ordinary Chromium that is there does as well.
debian-chromium:
	$(call debian,command -v chromium-headless-shell || command -v chromium,chromium-headless-shell)

debian-dbg:
	$(call debian,python3.11d -c 'import ensurepip$(comma) _testcapi' && command -v c++,python3-dbg python3-dev python3-venv g++)

debian-bench:
	$(call debian,command -v wrk && command -v ab,wrk apache2-utils)
	$(call debian,test -e /usr/include/ev.h,libev-dev gcc)
