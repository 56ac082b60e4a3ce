# Two commands set everything up by themselves: make book, make test.
PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin/python
# a build of PyTorch other than the package index's own: cpu, cu126, cu130
TORCH  ?=
SHELL  := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

help:  ## say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/ready: requirements.txt requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; name it: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	if [ -n "$(TORCH)" ]; then \
	  $(RUN) -m pip install --quiet --index-url https://download.pytorch.org/whl/$(TORCH) \
	    $$(grep -E '^torch(vision)?==' requirements.txt); fi
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt -c requirements.lock
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

book: $(VENV)/ready  ## run every notebook, build the site (_build/html)
	$(RUN) -m maestro book

# processes share the cores here: threads that wait must sleep, not spin
test courses: export OMP_WAIT_POLICY = passive

test: $(VENV)/ready  ## unit tests, notebooks, the built site in a browser
	$(RUN) -m ruff check .
	$(RUN) -m maestro.publish.browser
	$(RUN) -m maestro book
	$(RUN) -m pytest --nbval-lax --nbval-current-env -n 2 --dist loadscope tests notebooks

courses: $(VENV)/ready  ## tests of whole trainings again, as two other processors would round
	ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE OMP_NUM_THREADS=2 $(RUN) -m pytest -q -m course -n 2 --dist loadscope tests
	ATEN_CPU_CAPABILITY=avx2 OMP_NUM_THREADS=1 $(RUN) -m pytest -q -m course -n 2 --dist loadscope tests

notebooks: $(VENV)/ready  ## run the notebooks anew and store their outputs
	$(RUN) -m maestro notebooks

wheel: $(VENV)/ready  ## the package as one file to install elsewhere (_build/wheel)
	rm -rf build _build/wheel
	$(RUN) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir _build/wheel .

zip: book  ## the site as one file to pass on (_build/maestro-book.zip)
	$(RUN) -c 'import shutil; print(shutil.make_archive("_build/maestro-book", "zip", "_build", "html"))'

lock: $(VENV)/ready  ## pin the whole environment anew (requirements.lock)
	$(RUN) -m maestro.publish.lock

bench: $(VENV)/ready  ## measure speed against plain PyTorch
	$(RUN) benchmarks/bench.py

stress: $(VENV)/ready  ## count kills, repeats and wrong inputs: a quarter of an hour
	$(RUN) benchmarks/stress.py

clean:  ## remove what was built (not the environment, not data/cache)
	rm -rf _build

.PHONY: help book test courses notebooks wheel zip lock bench stress clean
