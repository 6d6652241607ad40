# make demo    open the tour in JupyterLab (HEADLESS=1: run it to its end and write a page)
# make test    everything that CI runs
# make check   the quick part of it, without the browser
# make format  let ruff put the source in order
# make outputs run the notebooks and store what they show
# make pictures take the pictures of the documentation in a real JupyterLab, Notebook 7, Voila and marimo
# make clean   take away what these made
#
# Each does the set-up it needs, once; see tools/setup. PYTHON=… and CHROMIUM=… name others than those found.

.PHONY: help demo test check format outputs pictures clean python-ready lint js-checks
.DEFAULT_GOAL := help

# Everything is addressed from here, so that a checkout may stand in a folder with spaces.
PY := .venv/bin/python
export PYTHONUTF8 := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed '/^$$/q'

python-ready:
	@tools/setup python

demo: python-ready
	@$(PY) tools/notebooks.py $(if $(filter-out 0,$(HEADLESS)),page,open)

test: lint js-checks
	@tools/run-pytest

check: lint js-checks
	@$(PY) -m pytest -q -m 'not browser and not slow'

lint: python-ready
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	$(PY) -m mypy
	.venv/bin/lint-imports --no-logo

js-checks: python-ready
	@tools/js-checks

format: python-ready
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

outputs: python-ready
	@$(PY) tools/notebooks.py store

pictures: python-ready
	@SHOTS=build/pictures $(PY) -m pytest -q tests/browser/test_pictures.py \
		tests/browser/test_tour.py::test_the_picture_of_the_readme \
		tests/browser/test_everywhere.py -k 'not test_everywhere or either' \
		'tests/browser/test_exports.py::test_it_looks_right[light-1280]' \
		'tests/browser/test_exports.py::test_it_looks_right[dark-1280]'
	@rm build/pictures/*-page.png
	cp build/pictures/*.png docs/images/

clean:
	rm -rf .venv node_modules build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
