# nsrun: `make help` explains every target. Each target does all of its own set-up.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# A cache of compiled modules is part of a fast start, whatever the caller thinks of .pyc files.
export PYTHONDONTWRITEBYTECODE :=

PYTEST := $(BIN)/python -m pytest

C_SOURCES := $(wildcard csrc/*.c csrc/*.h csrc/*.py csrc/pause/*.c)
BUILD_INPUTS := $(C_SOURCES) setup.py pyproject.toml tools/packages.sh nsrun/_version.py

.PHONY: help
help: ## this list
	@echo 'nsrun: Kubernetes Pods on one Linux machine. Targets:'
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18 | sed 's/^/  /'

# The environment holds the dependencies; it is made again only when the list of them changes.
$(VENV)/.dependencies: pyproject.toml tools/packages.sh
	tools/packages.sh build run
	$(PYTHON) tools/python_version.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$($(BIN)/python tools/dependencies.py build run test)
	touch $@

$(VENV)/.built: $(VENV)/.dependencies $(BUILD_INPUTS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	touch $@

.PHONY: build
build: $(VENV)/.built ## .venv with nsrun in it (.venv/bin/nsrun); does nothing when nothing changed
	@echo "$(BIN)/nsrun is version $$($(BIN)/nsrun --version)"

.PHONY: demo
demo: build ## run a Pod: an init container, a sidecar, two main containers on one localhost (root)
	@PATH="$(CURDIR)/$(BIN):$$PATH" examples/demo.sh

.PHONY: demo-kiada
demo-kiada: build ## a Node.js application behind a TLS proxy, four ways (root)
	tools/packages.sh kiada
	@PATH="$(CURDIR)/$(BIN):$$PATH" PYTHON="$(CURDIR)/$(BIN)/python" KIADA_CACHE="$(CURDIR)/build/kiada" examples/kiada/demo.sh

.PHONY: test
test: test-pure test-ns test-host ## everything that proves it (root)

.PHONY: test-pure
test-pure: build ## tests without root, clock, input or output
	$(PYTEST) tests/pure -m pure -n auto $(TEST_OPTIONS)

.PHONY: test-ns
test-ns: build ## tests on real namespaces (root, or a user namespace)
	tools/packages.sh test
	$(PYTEST) tests/ns -m ns $(TEST_OPTIONS)

.PHONY: test-host
test-host: build ## tests of the whole, in namespaces of their own; NSRUN_LANES=2 at a time (root)
	tools/packages.sh test
	tools/kubectl.sh
	$(BIN)/python -m tests.host.lanes $(TEST_OPTIONS)

.PHONY: test-soak
test-soak: build ## the long ones: 1,000 sequential pods, more rounds of SIGKILL (root, half an hour)
	tools/packages.sh test
	NSRUN_SOAK=1 $(BIN)/python -m tests.host.lanes $(TEST_OPTIONS)

.PHONY: test-vm
test-vm: build ## tests in a virtual machine: cgroup version 2 alone, another kernel, all capabilities (root, QEMU)
	tools/packages.sh vm
	$(BIN)/python -m tests.vm -- tools/provision.sh test $(TEST_OPTIONS)
	$(if $(TEST_OPTIONS),,$(PYTEST) tests/vm -m vm)

.PHONY: test-sanitized
test-sanitized: build ## the ns ring again with the C built under ASan and UBSan (root)
	tools/packages.sh test
	tools/sanitized.sh $(PYTEST) tests/ns -m ns $(TEST_OPTIONS)

.PHONY: conformance
conformance: build ## docs/conformance.md anew: which tests prove which rule of a Pod
	$(BIN)/python tools/conformance.py

.PHONY: conformance-run
conformance-run: build ## run the tests that prove rules, and print each rule's result (root)
	tools/packages.sh test
	mkdir -p build/conformance
	-$(PYTEST) tests/pure -m pure -k test_S_ --junit-xml build/conformance/pure.xml $(TEST_OPTIONS)
	-$(PYTEST) tests/ns -m ns -k test_S_ --junit-xml build/conformance/ns.xml $(TEST_OPTIONS)
	-$(BIN)/python -m tests.host.testhost -- $(BIN)/python -m pytest tests/host -m host -k test_S_ \
		--junit-xml $(CURDIR)/build/conformance/host.xml $(TEST_OPTIONS)
	$(BIN)/python tools/conformance.py --results build/conformance/*.xml

.PHONY: fuzz
fuzz: build ## libFuzzer on everything in C that decodes bytes, on the reader of layers, and on stacks of layers beside umoci (root); FUZZ_SECONDS=60 for each, FUZZ_SEED=N for the same again
	tools/packages.sh fuzz
	tools/fuzz.sh $${FUZZ_SECONDS:-60} $${FUZZ_SEED:-}
	$(BIN)/python -m tests.host.testhost -- $(BIN)/python -m tests.host.images.fuzzing $${FUZZ_SECONDS:-60} $${FUZZ_SEED:-}
	$(BIN)/python -m tests.host.testhost -- $(BIN)/python -m tests.host.images.stacking $${FUZZ_SECONDS:-60} $${FUZZ_SEED:-}

.PHONY: check
check: build ## ruff, mypy --strict, C warnings as errors with gcc and clang, Vagrantfile
	tools/packages.sh check
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$($(BIN)/python tools/dependencies.py check)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	tools/check_c.sh
	tools/check_vagrant.sh

.PHONY: bench
bench: build ## figures, side by side with podman, crun, runc and bubblewrap where installed (root)
	tools/debian_root.sh build/debian.tar
	$(BIN)/python -m tests.host.testhost -- unshare --mount $(BIN)/python -m tests.bench $(BENCH_OPTIONS)

.PHONY: wheel
wheel: build ## a wheel and an sdist in dist/
	$(BIN)/python -m pip install --quiet --disable-pip-version-check build
	$(BIN)/python -m build --no-isolation

.PHONY: clean
clean: ## remove all that was built
	rm -rf $(VENV) build dist *.egg-info nsrun/_native*.so nsrun/_native*.c nsrun/bin bench-results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
