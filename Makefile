# The two commands of the README: `make quickstart` climbs the ladder on the shipped documents, `make test` runs the tests.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart test check nightly clean

quickstart: .venv/quickstart.stamp
	$(BIN)/ragladder climb configs/quickstart.yaml

test: .venv/dev.stamp
	$(BIN)/python -m pytest -q

check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

# With `pip install xllamacpp gguf` in .venv also against llama.cpp's own server.
nightly: .venv/dev.stamp
	$(BIN)/python -m pytest -q -m "slow and not gpu and not network" --timeout=3600

clean:
	rm -rf .venv .ragladder build dist *.egg-info

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/quickstart.stamp: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[quickstart]'
	@touch $@

.venv/dev.stamp: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
