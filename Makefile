# Everything that a person or CI runs. Each target sets up what it needs, from Python and a C++ compiler.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Of `make fuzz`: another seed draws other programs and texts; how many times the programs of `make test`; how many texts.
SEED ?= 1
TIMES ?= 8
TEXTS ?= 1000000

.PHONY: demo demo-distributed examples test test-floors test-light lint format docs site accuracy identical compile-all fuzz
.PHONY: fuzz-ranks coverage mutation bench bench-quick bench-gpu bench-static bench-lowering bench-balance bench-ranks clean
.PHONY: bench-gpu-first bench-gpu-first-prepare test-arm test-x86 test-clang

demo: $(READY) ## Compile examples/bigbird.bsl and train a small language model with it
	$(BIN)/python examples/train_lm.py

demo-distributed: $(READY) ## Train the demo's model on one sequence over 4 processes, and over one, and compare the losses
	$(BIN)/python examples/context_parallel.py

examples: $(READY) ## Every example at its full size, in some ten minutes; plots go to build/, tables and plots into docs/examples.md
	$(BIN)/python -m benchmarks.examples --docs

test: $(READY) lint ## Lint, type check, and all tests
	$(BIN)/python -m pytest -n 2 --dist worksteal

# ONLY=triton for one of its environments. torch's own wheels for CUDA are gigabytes: pip's settings may name an
# index of wheels for the CPU.
test-floors: ## The tests at the oldest versions of Python, torch, NumPy and Triton, and at the newest; into docs/verification.md
	$(PYTHON) tests/floors.py $(if $(ONLY),--only $(ONLY))

test-arm: $(READY) ## Tests of the cpu target's kernels for 64-bit Arm, old and new, under QEMU; needs a cross compiler
	$(BIN)/python tests/processors.py --march armv8-a --march armv8.6-a+bf16+i8mm -n 2

test-x86: $(READY) ## The same tests for each level of x86-64 that this processor has, and for a model of AMX
	$(BIN)/python tests/processors.py --march x86-64 --march x86-64-v2 --march x86-64-v3 --march x86-64-v4 --march amx -n 2

test-clang: $(READY) ## The same tests, built by Clang for this processor
	CXX=clang++ $(BIN)/python tests/processors.py --march native -n 2

test-light: ## That commands work without torch, in an environment that has none, within a minute
	test -x .venv-light/bin/python || $(PYTHON) -m venv .venv-light
	.venv-light/bin/python -m pip install --quiet --constraint constraints.txt '.[lsp]' pytest
	.venv-light/bin/python -m pytest --noconftest tests/test_missing.py -k without_torch

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

accuracy: $(READY) ## The table of docs/verification.md: errors of every target against fp64
	$(BIN)/python tests/accuracy.py

identical: $(READY) ## Whether results are those of another commit bit for bit, on every target: make identical BASE=main
	$(BIN)/python tests/identical.py $(BASE)

compile-all: $(READY) ## Every published layout's kernels, ahead of time for every architecture, about half an hour
	BSLANG_COMPILE_ALL=1 $(BIN)/python -m pytest -n 2 tests/test_triton_library.py

# Programs that mean something against the oracle; then texts, most of which are broken: compiled or refused, in bounded time.
fuzz: $(READY) ## Over 20,000 random programs against the oracle, then a million texts; SEED=2 for others
	BSLANG_EXAMPLES=$(TIMES) $(BIN)/python -m pytest -n 2 --dist worksteal -m programs \
		--hypothesis-profile=fuzz --hypothesis-seed=$(SEED)
	$(BIN)/python tests/fuzz.py --seed $(SEED) --inputs $(TEXTS)

fuzz-ranks: $(READY) ## 20,000 random programs on 1 to 8 simulated ranks against one process; SEED=2 for others
	BSLANG_EXAMPLES=1000 $(BIN)/python -m pytest -n 2 --dist worksteal tests/test_distributed.py -m programs \
		--hypothesis-profile=fuzz --hypothesis-seed=$(SEED)

coverage: $(READY)-quality ## Lines and branches of bslang/ that the tests run, some 30 minutes
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report=
	$(BIN)/python tests/covered.py

mutation: $(READY)-quality ## The share of changes to graph/, ir/ and schedule/ that tests notice, of a sample, about an hour
	$(BIN)/python tests/mutation.py

bench: $(READY)-bench ## The CPU target beside its peers, 30 to 40 minutes; writes benchmarks/results, docs/performance.md and what `bslang stats` knows of times
	$(BIN)/python -m benchmarks.cpu --output benchmarks/results --docs

bench-quick: $(READY)-bench ## The same on fewer workloads, some minutes; writes nothing
	$(BIN)/python -m benchmarks.cpu --quick

bench-gpu: $(READY) ## The triton target beside its peers, on a CUDA machine; writes benchmarks/results and docs/performance-gpu.md
	$(BIN)/python -m benchmarks.gpu --output benchmarks/results --docs

# Installs nothing, as there may be no network: PYTHON is one that has torch. `make bench-gpu-first-prepare`, where there
# is no GPU, makes FIRST.zip: with the versions of Python, torch and Triton that the other machine has.
FIRST ?= build/first

bench-gpu-first: ## First contact with a GPU, in eight minutes: what is right, what is broken, how fast it is; a line of JSON after each task
	$(PYTHON) -m benchmarks.first $(FIRST).zip

bench-gpu-first-prepare: ## What bench-gpu-first runs, compiled without a GPU: FIRST.zip
	$(PYTHON) -m benchmarks.first $(FIRST) --prepare

bench-static: $(READY) ## The triton target's machine code on six GPUs beside its goals, without a GPU, in ten minutes; prints only
	$(BIN)/python -m benchmarks.static

bench-lowering: $(READY) ## Time and memory of lowering
	$(BIN)/python -m benchmarks.lowering

bench-balance: $(READY) ## A simulation: how evenly the programs of the Triton kernels load a GPU
	$(BIN)/python -m benchmarks.balance

bench-ranks: $(READY) ## A simulation: what layouts move between 8 to 1,024 ranks; into docs/distributed.md, in a minute or two
	$(BIN)/python -m benchmarks.ranks --docs

docs: $(READY) ## The pages, pictures and notebooks that are made from the code, and the grammar and icon of editors
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/notebooks.py
	$(BIN)/python editors/generate_textmate.py
	$(BIN)/python editors/generate_icon.py

site: $(READY) ## docs/ as a site in site/, without a warning; BSLANG_REPOSITORY=ADDRESS links to the repository
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict # with --quiet it counts no warning

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# torch goes first: its pinned release then satisfies the package's open range.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# The peers that benchmarks run beside, and what draws their plots.
$(READY)-bench: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,bench]'
	touch $@

# What `make coverage` and `make mutation` run.
$(READY)-quality: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,quality]'
	touch $@

clean:
	rm -rf $(VENV) .venv-floors .venv-light dist build site mutants .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
