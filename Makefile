# `make` lists the commands. Everything runs in .venv, which is made again whenever requirements.lock changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.locked-$(shell cksum requirements.lock | cut -d' ' -f1)
SCALE ?= demo
MINUTES ?= 55
TRITON := .triton
REFEREE := .referee
BROWSER := .browser
DOCS := .docs
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONPATH := $(CURDIR)/src
export PYTHONUTF8 := 1
# Nearly every step and test starts Python: without compiled modules beside the sources, importing torch takes twice as long.
export PYTHONDONTWRITEBYTECODE :=
# Where the home folder is read-only, Snakemake, torch and matplotlib keep their caches here.
CACHE := $(shell cache="$${XDG_CACHE_HOME:-$$HOME/.cache}"; mkdir -p "$$cache" 2>/dev/null; test -w "$$cache" || echo .snakemake/cache)
ifneq ($(CACHE),)
export XDG_CACHE_HOME := $(CURDIR)/$(CACHE)
export MPLCONFIGDIR := $(CURDIR)/$(CACHE)/matplotlib
endif

.DEFAULT_GOAL := help
.PHONY: help demo docs plan campaign worlds test test-cluster test-triton test-browser test-faults mutants lint format bench referee restore save lock clean

help: ## list the commands
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is too old; Python 3.11 or newer is needed (make PYTHON=...)" >&2; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	site=$$(echo $(VENV)/lib/python3*/site-packages) && cp src/redoubt/_torchvision.py $$site/beside_cpu_torch.py && \
	  echo 'import beside_cpu_torch' > $$site/beside_cpu_torch.pth
	touch $@

demo: $(STAMP) ## the whole pipeline on data that ships inside a dependency, ending with a scorecard
	python -m redoubt.graph.warm snakemake --cores all --quiet rules --config scale=$(SCALE)
	@python -m redoubt.tools.summary --scale $(SCALE)

plan: $(STAMP) ## before a run: jobs, hours, disk space, and what is not available (SCALE=paper)
	@python -m redoubt.tools.plan --scale $(SCALE)

campaign: $(STAMP) ## run a scale for some minutes, what is worth most first; the next call goes on (SCALE=paper MINUTES=55 PACK=state.tar)
	@python -m redoubt.tools.campaign --scale $(SCALE) --minutes $(MINUTES) $(if $(PACK),--pack $(PACK))

worlds: $(STAMP) ## in how many simulated worlds each claim holds, without any effect and where the paper is right; writes docs/worlds.md
	@python -m redoubt.tools.worlds --scale paper --write

test: $(STAMP) ## all tests
	python -m pytest -n auto --dist loadfile

test-cluster: $(STAMP) ## the workflow and its faults on a real SLURM of one node (as root: Debian's slurm-wlm and munge)
	python tests/cluster/slurm.py
	python -m pytest tests/cluster

$(TRITON)/triton:
	rm -rf $(TRITON)
	python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --target $(TRITON) triton==3.9.0

test-triton: $(STAMP) $(TRITON)/triton ## the search of peer layers on a GPU, in Triton's interpreter, and compiled for two GPUs (Linux; 0.3 GB)
	PYTHONPATH=$(PYTHONPATH):$(CURDIR)/$(TRITON) TRITON_INTERPRET=1 python -m pytest tests/gpu

$(BROWSER)/playwright:
	rm -rf $(BROWSER)
	python -m pip install --quiet --disable-pip-version-check --no-compile --target $(BROWSER) playwright==1.65.2 axe-playwright-python==0.1.8

test-browser: $(STAMP) $(BROWSER)/playwright ## the report in headless Chromium, which must be there (0.2 GB)
	PYTHONPATH=$(PYTHONPATH):$(CURDIR)/$(BROWSER) python -m pytest tests/browser

test-faults: $(STAMP) ## kill, fill and break every step on purpose; writes docs/faults.md
	python -m pytest tests/faults -m "slow or not slow" -n auto --faults-page docs/faults.md

mutants: $(STAMP) ## break the code on purpose, and see a test catch every break
	python tests/mutants.py

lint: $(STAMP) ## ruff, mypy, snakefmt, snakemake --lint, and every number of the pages is in a file that it names
	ruff check src tests benchmarks examples
	ruff format --check src tests benchmarks examples
	mypy
	snakefmt --check Snakefile workflow
	snakemake --lint
	python -m redoubt.tools.numbers

format: $(STAMP) ## rewrite sources in the house's format, the JSON schemas and the targets of DVC
	ruff check --fix src tests benchmarks examples
	ruff format src tests benchmarks examples
	snakefmt Snakefile workflow
	python -m redoubt.tools.schemas
	python -m redoubt.tools.architecture
	python -m redoubt.tools.verdicts
	python -m redoubt.tools.dvc --targets

$(DOCS)/env/.locked: docs/requirements.txt
	rm -rf $(DOCS)/env
	$(PYTHON) -m venv $(DOCS)/env
	$(DOCS)/env/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps -r docs/requirements.txt
	touch $@

docs: $(STAMP) $(DOCS)/env/.locked ## the docs site in site/, from docs/, code and results/reference; a broken link fails
	python -m redoubt.tools.site $(DOCS)
	PYTHONPATH= NO_MKDOCS_2_WARNING=1 $(DOCS)/env/bin/python -m mkdocs --quiet build --strict --config-file $(DOCS)/mkdocs.yml
	@echo site/index.html

bench: $(STAMP) ## measure speed; writes benchmarks/results/
	python benchmarks/run.py

$(REFEREE)/adv_lib:
	rm -rf $(REFEREE)
	python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --target $(REFEREE) adv-lib==0.2.8 torchattacks==3.5.1

referee: $(STAMP) $(REFEREE)/adv_lib ## our attacks beside those of adv-lib and torchattacks; writes benchmarks/results/referee.md (10 minutes of one core)
	PYTHONPATH=$(PYTHONPATH):$(CURDIR)/$(REFEREE) python benchmarks/referee.py

restore: $(STAMP) ## after clone: fetch checkpoints and results from the DVC remote (DATA=1: datasets too), and rebuild nothing
	python -m redoubt.tools.restore --scale $(SCALE) $(if $(DATA),--with-data)

save: $(STAMP) ## record finished results in dvc.lock, and push them to the DVC remote if there is one
	python -m redoubt.tools.restore --scale $(SCALE) --save

lock: ## resolve pyproject.toml again into requirements.lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet "torch==2.13.0" "torchvision==0.28.0"
	.venv-lock/bin/python -m pip install --quiet ".[pipeline,foolbox,cluster,dev,fast]"
	{ echo '# The resolved set that `make` installs; regenerate with `make lock` after a change of pyproject.toml.'; \
	  .venv-lock/bin/python -m pip freeze --exclude redoubt | sed 's/+cpu//'; } > requirements.lock
	rm -rf .venv-lock

clean: ## remove results of all scales, logs and the environment; results/reference stays
	rm -rf $(VENV) $(TRITON) $(REFEREE) $(BROWSER) $(DOCS) site logs .snakemake
	find results -mindepth 1 -maxdepth 1 ! -name reference -exec rm -rf {} +
