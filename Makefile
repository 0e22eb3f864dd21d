# make            what there is
# make quickstart the main job, end to end, on this machine
# make test       the tests
PYTHON ?= python3
VENV ?= .venv
RUN ?= runs/quickstart
BIN := $(VENV)/bin
BUILDIFIER := npx --yes @bazel/buildifier@8.2.1
export PYTHONUNBUFFERED = 1

.PHONY: help install quickstart test test-slow lint docs wheel clean distclean

help:
	@echo "make install      the tested versions, into .venv"
	@echo "make quickstart   table of this machine, search, training, .tflite, report (RUN=$(RUN))"
	@echo "make test         quick tests (minutes)"
	@echo "make test-slow    long tests"
	@echo "make lint         ruff, mypy, buildifier (if npx is here)"
	@echo "make docs         build/api/index.html: every module, class and function"
	@echo "make wheel        dist/*.whl and dist/*.tar.gz"
	@echo "make clean        removes build/ and dist/"
	@echo "make distclean    removes the virtual environment and runs/, with all networks in it, too"
	@echo "PYTHON=python3.12 make ...   another Python"

$(VENV)/.installed: requirements.txt
	@echo "Installing into $(VENV): 2.4 GB, a few minutes."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

install: $(VENV)/.installed

quickstart: $(VENV)/.installed
	@echo "1/5 How long does each op take on this machine?"
	@$(BIN)/python -m latency.build_table --space=quickstart --measurer=host --output=$(RUN)/host.jsonl
	@echo "2/5 Searching."
	@$(BIN)/python -m pnas_tf.search --flagfile=quickstart.flags --table=$(RUN)/host.jsonl --run_dir=$(RUN)
	@echo "3/5 Training what was found."
	@$(BIN)/python -m pnas_tf.train --run_dir=$(RUN) --epochs=16 --batch_size=64 --lr=0.1
	@echo "4/5 Writing .tflite and timing it."
	@$(BIN)/python -m export.tflite --run_dir=$(RUN) --mode=float32,float16,int8
	@echo "5/5 Report."
	@$(BIN)/python -m pnas_tf.report --run_dir=$(RUN)

# Each process takes half of the tests in order, so that most files stay together with what their fixtures made; the
# one that ends first takes over a part of the other's rest. Each needs up to 4 GB of memory.
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -m slow

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	@if $(BUILDIFIER) --version > /dev/null 2>&1; then $(BUILDIFIER) -mode=check -lint=warn $$(git ls-files "*BUILD") MODULE.bazel; \
	else echo "No npx, or it cannot fetch buildifier: left out."; fi

docs: $(VENV)/.installed-dev
	$(BIN)/python scripts/make_api_pages.py build/api

wheel: $(VENV)/.installed-dev
	$(BIN)/python -m build

clean:
	rm -rf build dist

distclean: clean
	rm -rf $(VENV) runs
