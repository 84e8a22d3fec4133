# make app    the app with the bundled demo        make test   every test
# make check  lint, format, types, layers          make help   the rest
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TESTSTAMP := $(VENV)/.installed-tests
WORKSPACE ?= workspace
ARGS ?=
CASES ?= 20000

.PHONY: help env app test test-slow check format demo bench-demo bench-timing bench-ui bench-cifar bench-gtsrb bench-worlds bench-naming bench-zoo bench-users bench-guidance bench-throughput bench-compare evidence bench-large chaos load film fuzz coverage mutate clean

help:
	@echo "make app         create the environment, open the app with the demo on 127.0.0.1 (ARGS='--port 8000')"
	@echo "make test        create the environment, run every test but the slowest (ARGS='-k export')"
	@echo "make test-slow   those: most journeys in a browser, a Ray that is ended by force, a second device, samples of the long campaigns"
	@echo "make check       ruff, mypy --strict on ltg_core, the layering test"
	@echo "make demo        train the demo's models again into assets/demo (about two hours on two cores)"
	@echo "make evidence    every arm of every comparison, what is missing alone (ARGS='--minutes 20', '--list', '--parts roadsigns')"
	@echo "make bench-demo  measure the demo and write docs/evidence.md"
	@echo "make bench-timing bench-ui bench-cifar bench-gtsrb bench-worlds   waiting times; the page; CIFAR-10; GTSRB; other worlds"
	@echo "make bench-naming  which planted cells are named, which are causes, what a pool holds of them"
	@echo "make bench-zoo   put some 70 architectures through every step and write docs/zoo.md"
	@echo "make bench-users   what each further user of a server costs in time, memory and disk"
	@echo "make bench-guidance bench-throughput   guidance against ten others at matched effect; our code against the bare networks"
	@echo "make bench-compare  what got worse since the last results"
	@echo "make bench-large   importing, and a page over a million samples (ARGS='--samples 100000')"
	@echo "make chaos       kills, full disks and other faults at some 400 points, and what is there afterwards (an hour; goes on where it was stopped)"
	@echo "make load        50 users at once on the real server for ten minutes (ARGS='--users 20 --minutes 30')"
	@echo "make film        record the loop on the demo into docs/screenshots/film.webp (Chromium, some three minutes)"
	@echo "make coverage    which lines of ltg_core its own tests run, without browser and Ray (a quarter of an hour)"
	@echo "make mutate      a sample of changes in signals, data and guidance, and which no test notices (an hour; ARGS='--sample 50')"
	@echo "make fuzz        20,000 damaged and hostile files through every reader (CASES=20000)"
	@echo "TORCH=cpu|cuda make app   choose the build of torch by hand"

$(STAMP): requirements.txt tools/install.py
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || (echo "Python 3.11 or newer is needed (PYTHON=python3.12 make app)"; exit 1)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python tools/install.py requirements.txt
	@touch $@

$(TESTSTAMP): $(STAMP) requirements-dev.txt
	@$(BIN)/python tools/install.py requirements-dev.txt
	@touch $@

env: $(STAMP)

app: $(STAMP)
	$(BIN)/python app.py --workspace $(WORKSPACE) $(ARGS)

# A file is of one process: what a page or a workspace costs is paid once a file.
BY_FILE = --dist loadfile --no-loadscope-reorder

# The lowest priority for all of it: the servers' workers give way to any other process, the tests beside them too.
test: $(TESTSTAMP)
	OMP_NUM_THREADS=1 nice -n 19 $(BIN)/python -m pytest -n 3 $(BY_FILE) -m "not slow" $(ARGS)

test-slow: $(TESTSTAMP)
	OMP_NUM_THREADS=1 nice -n 19 $(BIN)/python -m pytest -n 2 $(BY_FILE) -m slow $(ARGS)

check: $(TESTSTAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_house.py

format: $(TESTSTAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: $(STAMP)
	$(BIN)/python -m ltg_core demo build $(ARGS)

evidence: $(TESTSTAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.evidence $(ARGS)
	$(BIN)/python -m benchmarks.report

bench-demo: $(TESTSTAMP)
	$(BIN)/python -m benchmarks.bench_demo $(ARGS)
	$(BIN)/python -m benchmarks.report

bench-timing: $(TESTSTAMP)
	$(BIN)/python -m benchmarks.bench_timing $(ARGS)
	$(BIN)/python -m benchmarks.report

bench-ui: $(TESTSTAMP)
	$(BIN)/python -m benchmarks.ui $(ARGS)
	$(BIN)/python -m benchmarks.report

bench-cifar: $(TESTSTAMP)
	$(BIN)/python -m benchmarks.bench_cifar $(ARGS)
	$(BIN)/python -m benchmarks.report

bench-gtsrb: $(TESTSTAMP)
	$(BIN)/python -m benchmarks.bench_gtsrb $(ARGS)
	$(BIN)/python -m benchmarks.report

bench-worlds: $(TESTSTAMP)
	$(BIN)/python -m benchmarks.bench_worlds $(ARGS)
	$(BIN)/python -m benchmarks.report

bench-naming: $(TESTSTAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.bench_naming $(ARGS)

bench-zoo: $(TESTSTAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.bench_zoo $(ARGS)

bench-guidance: $(TESTSTAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.bench_guidance $(ARGS)

bench-throughput: $(TESTSTAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.bench_throughput $(ARGS)

bench-compare: $(TESTSTAMP)
	$(BIN)/python -m benchmarks.compare $(ARGS)

film: $(TESTSTAMP)
	$(BIN)/python -m benchmarks.film $(ARGS)

bench-users: $(TESTSTAMP)
	$(BIN)/python -m benchmarks.users $(ARGS)

bench-large: $(TESTSTAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.bench_large $(ARGS)

chaos: $(TESTSTAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m benchmarks.chaos $(ARGS)

load: $(TESTSTAMP)
	$(BIN)/python -m benchmarks.load $(ARGS)

fuzz: $(TESTSTAMP)
	FUZZ_CASES=$(CASES) $(BIN)/python -m pytest tests/fuzz -p no:cacheprovider --timeout 7200 $(ARGS)

coverage: $(TESTSTAMP)
	OMP_NUM_THREADS=1 nice -n 19 $(BIN)/python -m pytest -n 3 $(BY_FILE) -m "not slow" --ignore tests/app --ignore tests/journeys --ignore tests/fuzz \
		--ignore tests/workflows/test_on_ray.py --cov --cov-report term-missing:skip-covered $(ARGS)

mutate: $(TESTSTAMP)
	$(BIN)/python -m pip install -q mutmut==3.8.1
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.mutants $(ARGS)

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis test-results mutants .coverage*
