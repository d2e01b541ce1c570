# make train            the main job: meta-train half_cheetah_vel with maml_ppo; ARGS="iterations=3 seed=1" are passed on
# make demo             without training: a learner of the zoo meets three hidden goals and adapts; a table and videos
# make test             the tests; ARGS="tests/core -k trust" are passed on
# make check            what a change must pass: formatting, lint, types, tests
# make slow             the tests that take minutes
# make gpu-check        all that a GPU machine should be asked, nine minutes a call, into gpu-check.jsonl
# make docs             the documentation site: build/site/index.html; `python3 -m http.server -d build/site` serves it, with its search
# make venv             only the environment in .venv, from constraints.txt; a second call does nothing
PYTHON ?= python3
ARGS ?=

BIN := .venv/bin
READY := .venv/.ready

.PHONY: help train demo test check slow gpu-check docs venv clean

help:
	@sed -n 's/^# make/make/p' Makefile

train: $(READY)
	@$(BIN)/python scripts/train.py env=half_cheetah_vel algo=maml_ppo $(ARGS)

demo: $(READY)
	@$(BIN)/python scripts/evaluate.py checkpoint=zoo:gridworld_5x5/rl2_ppo num_tasks=3
	@$(BIN)/python scripts/render.py checkpoint=zoo:gridworld_5x5/rl2_ppo num_tasks=3 width=240 height=240

test: $(READY)
	@$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=8 --dist=worksteal $(ARGS)

slow: $(READY)
	@$(BIN)/python -m pytest -m slow $(ARGS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@$(BIN)/python -m pytest $(ARGS)

gpu-check: $(READY)
	@$(BIN)/python scripts/benchmark.py gpu output=gpu-check.jsonl $(ARGS)

docs: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@$(BIN)/python docs/pages.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict -f build/docs/mkdocs.yml
	@echo "build/site/index.html"

venv: $(READY)

# torch comes first and alone: pip then takes the build that its index prefers for this machine, and everything else
# accepts it, instead of a build with CUDA libraries being fetched for one of the others.
$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON) found; install Python 3.11 or newer, or say make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = "%d.%d" % sys.version_info[:2]; sys.exit("error: Python 3.11 or newer is needed, $(PYTHON) is " + v + "; say make PYTHON=/path/to/python" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "error: $(PYTHON) can't make environments; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "Making the environment .venv (once; a few minutes)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache
