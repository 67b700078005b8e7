# make demo: install and run the whole demonstration; make test: install and run every check.
# Both print the plain commands they run; the README lists the same commands.

VENV ?= .venv
PYTHON ?= python3
RUN := $(VENV)/bin/python

.PHONY: demo test lock clean

demo: $(VENV)/installed
	$(RUN) -m spotjax.train --config configs/demo.py

test: $(VENV)/installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m pytest -n auto

$(VENV)/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: $(PYTHON) is older than 3.11: make PYTHON=python3.12 ..."; exit 1; }
	@set -ex; if command -v uv >/dev/null 2>&1; then \
	  uv venv --quiet --allow-existing --python "$(PYTHON)" $(VENV); \
	  uv pip install --quiet --python $(RUN) --require-hashes -r requirements.lock; \
	  uv pip install --quiet --python $(RUN) --no-deps -e .; \
	else \
	  $(PYTHON) -m venv $(VENV); \
	  $(RUN) -m pip install --quiet --require-hashes -r requirements.lock; \
	  $(RUN) -m pip install --quiet --no-deps -e .; \
	fi
	@touch $@

# exact versions with hashes for every platform and Python >= 3.11; names no download address
lock:
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --python-version 3.11 --custom-compile-command "make lock" \
	  --extra landmarks --extra dev pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) data/demo shards runs
