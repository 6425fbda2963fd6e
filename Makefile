# clinserve. `make help` lists the targets. PYTHON picks the interpreter, PORT and CONFIG what `serve` runs, SCENARIO
# what `load` puts on it.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 2>/dev/null || command -v python3.12 2>/dev/null || command -v python3)
PORT ?=
CONFIG ?= deploy/configs/demo.yaml
SCENARIO ?= everyday
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0+cpu
# Tried after the indexes that pip is configured with: the +cpu builds are not on the general index.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
# -qq: errors only
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

.PHONY: help setup setup-dev serve chat doctor observe check format test drill bench bench-litellm load image image-test lock scan readme dashboards chart clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | column -t -s '|'

serve: setup ## Serve the demo model on real vLLM and Ray Serve; Ctrl-C stops everything (PORT=, CONFIG=)
	@exec $(BIN)/clinserve serve --config "$(CONFIG)" $(if $(PORT),--port $(PORT))

chat: setup ## Talk to a running server
	@exec $(BIN)/clinserve chat

doctor: setup ## Say what this machine can run and what is missing
	@$(BIN)/clinserve doctor --config "$(CONFIG)"

observe: ## Prometheus and Grafana, where installed, beside a running server; Ctrl-C stops them (PORT=)
	@exec "$(PYTHON)" deploy/observability/observe.py $(if $(PORT),--port $(PORT))

setup: $(VENV)/.serve ## Create the virtual environment and install what serving needs
setup-dev: $(VENV)/.dev $(VENV)/.checkov $(VENV)/.audit

check: setup-dev ## The fast loop: format, lint, types, layers, tests that need no Ray
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache >/dev/null || $(BIN)/lint-imports --no-cache
	@$(BIN)/python -m pytest -q -n 2 -m "not ray and not image"

format: setup-dev ## Format and mend what can be mended
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

test: check ## Everything, with real vLLM and Ray Serve
	@$(BIN)/python -m pytest -q -m ray

BENCH ?=
bench: setup-dev ## Side by side: governance on and off; vLLM, the product, Ray Serve LLM, LiteLLM (an hour; BENCH=--quick)
	@$(BIN)/python -m loadtests.governance
	@$(BIN)/python -m loadtests.overhead $(BENCH)

bench-litellm: $(VENV)/.litellm ## Install LiteLLM's proxy beside the product, so that `bench` can measure it

load: setup-dev ## Put two minutes of load on a running `make serve`; the verdict first, then a report (SCENARIO=, PORT=, URL=)
	@$(BIN)/python -m loadtests "$(SCENARIO)" --url "$(or $(URL),http://127.0.0.1:$(or $(PORT),8000))"

drill: setup-dev ## What takes longer than a test may: killed batches, drains, faults, attacks, benchmarks, load tests' trust, the model, the image
	@REFERENCE_EXAMPLES=60 $(BIN)/python -m pytest -q --timeout 1200 tests/gateway/test_reference.py
	@$(BIN)/python -m loadtests.batches
	@$(BIN)/python -m loadtests.trust
	@$(BIN)/python -m loadtests.drains
	@$(BIN)/python -m loadtests.faults
	@$(BIN)/python -m loadtests.hostile
	@$(BIN)/python -m loadtests.overhead --quick --peers bare,product --engines model
	@$(BIN)/python deploy/demo_model/evaluate.py
	@$(BIN)/python -m pytest -q -m image tests/deploy

IMAGE ?= clinserve:cpu
image: ## Build the CPU image with docker, podman or buildah (IMAGE=name:tag, PIP_CONF=a pip.conf for the build)
	@bash deploy/images/build.sh cpu "$(IMAGE)"

image-test: setup-dev ## Build it with buildah, run it locked down and ask the demo model something (as root; minutes)
	@$(BIN)/python -m pytest -q -m image tests/deploy

lock: setup-dev ## Resolve requirements/*.in again into requirements/*.txt
	@$(BIN)/python -m pip --quiet install uv
	@bash requirements/lock.sh $(BIN)/uv

scan: setup-dev ## Known vulnerabilities of what is pinned, each answered in requirements/vex.json (OFFLINE=1: PyPI cannot be asked)
	@$(BIN)/python requirements/scan.py

readme: setup-dev ## Write the tables of README.md anew
	@$(BIN)/python -m tests.test_readme

dashboards: setup ## Write the dashboards' JSON anew
	@$(BIN)/python deploy/observability/generator

chart: setup ## Write the chart's schema, table, rules and dashboards anew
	@$(BIN)/python helm/made.py

clean: ## Remove the virtual environment and all state
	rm -rf $(VENV) .clinserve

$(VENV)/.python:
	@version=$$("$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true); \
	case "$$version" in \
	3.11|3.12) ;; \
	*) echo "clinserve: needs Python 3.11 or 3.12, found '$${version:-none}'. Set PYTHON=/path/to/python3.12" >&2; exit 1;; \
	esac
	@"$(PYTHON)" -m venv $(VENV)
	@touch $@

# One step at a time and how long it took: the first run fetches about 700 MB, which takes minutes.
$(VENV)/.serve: $(VENV)/.python requirements/serve.txt pyproject.toml
	@bash requirements/step.sh "[1/3] PyTorch for CPUs" \
	  '$(PIP) install --no-deps "$(TORCH)" 2>/dev/null || $(PIP) install --no-deps --index-url $(TORCH_INDEX) "$(TORCH)"'
	@bash requirements/step.sh "[2/3] vLLM, Ray and the rest, pinned" \
	  '$(PIP) install --no-deps --require-hashes --only-binary :all: -r requirements/serve.txt'
	@bash requirements/step.sh "[3/3] clinserve" '$(PIP) install --no-deps --no-build-isolation -e .'
	@touch $@

$(VENV)/.litellm: $(VENV)/.python requirements/litellm.txt
	@rm -rf $(VENV)/litellm && "$(PYTHON)" -m venv $(VENV)/litellm
	@bash requirements/step.sh "[litellm] LiteLLM's proxy, in $(VENV)/litellm" \
	  '$(VENV)/litellm/bin/python -m pip --disable-pip-version-check -qq install --no-deps --require-hashes \
	  --only-binary :all: -r requirements/litellm.txt'
	@touch $@

$(VENV)/.checkov: $(VENV)/.python requirements/checkov.txt
	@rm -rf $(VENV)/checkov && "$(PYTHON)" -m venv $(VENV)/checkov
	@bash requirements/step.sh "[dev] checkov, in $(VENV)/checkov" \
	  '$(VENV)/checkov/bin/python -m pip --disable-pip-version-check -qq install --no-deps --require-hashes \
	  --only-binary :all: -r requirements/checkov.txt'
	@touch $@

$(VENV)/.audit: $(VENV)/.python requirements/audit.txt
	@rm -rf $(VENV)/audit && "$(PYTHON)" -m venv $(VENV)/audit
	@bash requirements/step.sh "[dev] pip-audit, in $(VENV)/audit" \
	  '$(VENV)/audit/bin/python -m pip --disable-pip-version-check -qq install --no-deps --require-hashes \
	  --only-binary :all: -r requirements/audit.txt'
	@touch $@

$(VENV)/.dev: $(VENV)/.serve requirements/dev.txt requirements/openai-1.txt requirements/openai-2.txt \
  requirements/frameworks.txt requirements/llama-index.txt tests/node/package-lock.json
	@bash requirements/step.sh "[dev] what checks and tests need" \
	  '$(PIP) install --no-deps --require-hashes --only-binary :all: -r requirements/dev.txt'
	@bash requirements/step.sh "[dev] older OpenAI clients that are in use" \
	  'for major in 1 2; do rm -rf $(VENV)/clients/openai-$$major; $(PIP) install --no-deps --require-hashes \
	  --only-binary :all: --target $(VENV)/clients/openai-$$major -r requirements/openai-$$major.txt; done'
	@bash requirements/step.sh "[dev] frameworks on top of them" \
	  'for set in frameworks llama-index; do rm -rf $(VENV)/clients/$$set; $(PIP) install --no-deps --require-hashes \
	  --only-binary :all: --target $(VENV)/clients/$$set -r requirements/$$set.txt; done'
	@bash requirements/step.sh "[dev] the JavaScript clients and Azurite" \
	  '$(BIN)/python tests/node/npm.py ci --prefix tests/node --ignore-scripts --loglevel=error >/dev/null'
	@touch $@
