# One command from a fresh clone to a trained model: make sft. "make help" lists the targets.
#
# Variables, given after the target (make sft RECIPE=recipes/sft/full.yaml ARGS="--max_steps 20"):
#   RECIPE      recipe file to run; without it, that of recipes/TARGET/quickstart.yaml
#   ARGS        more arguments for the command, such as "--learning_rate 1e-4"
#   NPROC       processes to train with, on CPU or GPUs (torchrun)
#   ACCELERATE  an accelerate configuration file: start through "accelerate launch" instead
#   DATA        data file for "make bench-sft", "bench-dpo", "bench-reward", "bench-ppo", "bench-generate" and
#               "bench-adapters"
#   UPDATE      1: make test-newest looks for newer releases than it has installed
#   COUNT       kills of "make test-kill"
#   RUN         run folder for report, chat and merge (chat also takes a model); without it, the newest under
#               runs/. Several for "make report" compare them: RUN="runs/a runs/b"
#   OUT         folder for "make merge"; without it, RUN with -merged behind its name
#   VENV        environment to use; an existing one that has what is needed is used as it is.
#               For the Python you are in, as on Colab: VENV=$(python3 -c 'import sys; print(sys.prefix)')
#   PYTHON      interpreter that makes a new environment (3.11 or newer)
#   TORCH       what pip installs as PyTorch, before the rest; TORCH=torch takes the newest release. It is also what
#               "make test-newest" and "make test-oldest" install when they make or update their environments

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

RECIPE ?=
ARGS ?=
NPROC ?= 1
ACCELERATE ?=
RUN ?=
OUT ?=
VENV ?= .venv
PYTHON ?= python3
TORCH ?= torch==2.13.0
TEST_WORKERS ?= 2
COUNT ?= 100

PY := $(VENV)/bin/python3
MODEL := models/SmolLM2-135M-Instruct
ENCODER := models/all-MiniLM-L6-v2
# A stamp says that the environment was complete when setup.cfg last changed.
READY := $(VENV)/.hf_align-ready
READY_DEV := $(VENV)/.hf_align-ready-dev
SOURCES := hf_align tests scripts data benchmarks recipes notebooks

# $(call recipe,STAGE): RECIPE, or the quickstart of the stage.
STAGES := sft reward dpo kto ppo grpo best_of_n corpus tokenizer evaluate classify pretrain pipeline
recipe = $(or $(RECIPE),recipes/$(1)/quickstart.yaml)
# A model of this project is built only where the recipe, or an override of its model, names it.
model_source = $(if $(findstring --model_name_or_path,$(ARGS)),$(ARGS),$(shell cat "$(call recipe,$(1))" 2>/dev/null))
needed_model = $(foreach name,$(MODEL) $(ENCODER),$(if $(findstring $(name),$(call model_source,$(1))),$(name)/model.safetensors))

# Results of earlier steps under runs/ are made where the recipe, or an override, names them and they are missing:
# runs/tokenizer_NAME by recipes/tokenizer/NAME.yaml, runs/pretrain_NAME by recipes/pretrain/NAME.yaml.
# $(call named,STAGE,KEY): what KEY_name_or_path says.
named = $(if $(findstring --$(2)_name_or_path,$(ARGS)),$(ARGS),$(shell sed -nE "s/^$(2)_name_or_path: *([^ ]+).*/\1/p" "$(call recipe,$(1))" 2>/dev/null))
named_by = $(foreach key,model tokenizer embeddings,$(call named,$(1),$(key)))
needed_run = $(sort $(patsubst %,%/tokenizer.json,$(filter runs/tokenizer%,$(call named_by,$(1)))) \
	$(patsubst %,%/model.safetensors,$(filter runs/pretrain%,$(call named_by,$(1)))))

# Several processes: torchrun, which works on CPU as well ("accelerate launch --cpu" starts one process).
# The command itself compares the number of processes it finds with NPROC.
export NPROC
ifneq ($(ACCELERATE),)
LAUNCH = $(PY) -m accelerate.commands.launch --config_file "$(ACCELERATE)" \
	$(if $(filter-out 1,$(NPROC)),--num_processes $(NPROC)) -m hf_align
else ifneq ($(NPROC),1)
LAUNCH = export OMP_NUM_THREADS=$${OMP_NUM_THREADS:-$(THREADS_EACH)}; \
	$(PY) -m torch.distributed.run --standalone --nproc_per_node $(NPROC) -m hf_align
ON_CPU = $(shell $(PY) -c 'import torch; print("" if torch.cuda.is_available() else "--use_cpu true")')
THREADS_EACH = $(shell $(PY) -c 'import os; print(max(1, (os.cpu_count() or 1) // $(NPROC)))')
else
LAUNCH = $(PY) -m hf_align
endif

##@ Train and look
.PHONY: sft
sft: $(READY) model-of-sft runs-of-sft ## fine-tune with RECIPE (default: the quickstart) and write a report
	@$(LAUNCH) sft --config "$(call recipe,sft)" $(ON_CPU) $(ARGS)

.PHONY: reward
reward: $(READY) model-of-reward ## train a reward model on compared answers
	@$(LAUNCH) reward --config "$(call recipe,reward)" $(ON_CPU) $(ARGS)

.PHONY: dpo
dpo: $(READY) model-of-dpo ## align with compared answers: DPO, IPO and their family (loss: in RECIPE)
	@$(LAUNCH) dpo --config "$(call recipe,dpo)" $(ON_CPU) $(ARGS)

.PHONY: kto
kto: $(READY) model-of-kto ## align with single answers that are labelled as desirable or not
	@$(LAUNCH) kto --config "$(call recipe,kto)" $(ON_CPU) $(ARGS)

.PHONY: ppo
ppo: $(READY) model-of-ppo ## align with a reward model or function by PPO on the model's own answers
	@$(LAUNCH) ppo $(if $(findstring --replay,$(ARGS)),,--config "$(call recipe,ppo)" $(ON_CPU)) $(ARGS)

.PHONY: grpo
grpo: $(READY) model-of-grpo ## align with a reward by comparing answers to a prompt: GRPO, RLOO, REINFORCE (algorithm: in RECIPE)
	@$(LAUNCH) grpo $(if $(findstring --replay,$(ARGS)),,--config "$(call recipe,grpo)" $(ON_CPU)) $(ARGS)

.PHONY: best-of-n
best-of-n: $(READY) model-of-best_of_n ## sample many answers to each prompt, score them, keep the best
	@$(LAUNCH) best-of-n --config "$(call recipe,best_of_n)" $(ON_CPU) $(ARGS)

.PHONY: corpus
corpus: $(READY) ## clean a corpus: filter, edit and deduplicate documents, with a report on every step
	@$(PY) -m hf_align corpus --config "$(call recipe,corpus)" $(ARGS)

.PHONY: tokenizer
tokenizer: $(READY) model-of-tokenizer ## train a tokenizer, or extend one for another language, and measure it
	@$(PY) -m hf_align tokenizer --config "$(call recipe,tokenizer)" $(ARGS)

.PHONY: pretrain
pretrain: $(READY) model-of-pretrain runs-of-pretrain ## train a model on text from random weights, or further
	@$(LAUNCH) pretrain --config "$(call recipe,pretrain)" $(ON_CPU) $(ARGS)

.PHONY: evaluate
evaluate: $(READY) model-of-evaluate ## measure models side by side: perplexity, choices, answers, preferences
	@$(PY) -m hf_align evaluate --config "$(call recipe,evaluate)" $(ARGS)

.PHONY: classify
classify: $(READY) model-of-classify runs-of-classify ## train a classifier of texts or pairs on any model, with or without an adapter
	@$(LAUNCH) classify --config "$(call recipe,classify)" $(ON_CPU) $(ARGS)

.PHONY: pipeline
pipeline: $(READY) model-of-pipeline ## run all stages of RECIPE, from a tokenizer to aligned models, and compare them
	@$(PY) -m hf_align pipeline --config "$(call recipe,pipeline)" $(ARGS)

.PHONY: inspect
inspect: $(READY) model-of-sft runs-of-sft ## show RECIPE's rows as trained: every token, and which ones count
	@$(PY) -m hf_align inspect --config "$(call recipe,sft)" $(ARGS)

.PHONY: report
report: $(READY) ## write report.html again for RUN (default: the newest run), or compare several
	@$(find_run); $(PY) -m hf_align report $(if $(word 2,$(RUN)),$(RUN),"$$run") $(ARGS)

.PHONY: chat
chat: $(READY) ## talk with the result of RUN (default: the newest run), or with a model
	@$(find_run); $(PY) -m hf_align chat --model_name_or_path "$$run" $(ARGS)

.PHONY: merge
merge: $(READY) ## merge the adapter of RUN (default: the newest run) into its base, checked, in OUT
	@$(find_run); out="$(OUT)"; \
	$(PY) -m hf_align merge --model_name_or_path "$$run" --output_dir "$${out:-$${run%/}-merged}" $(ARGS)

# RUN, or the run under runs/ that wrote its record last.
define find_run
run="$(RUN)"; run="$${run:-$$(ls -t runs/*/run.json 2>/dev/null | head -n 1)}"; run="$${run%/run.json}"; \
if [ -z "$$run" ]; then \
	echo "error: there is no run folder under runs/; name one with RUN=" >&2; exit 2; fi
endef

##@ Set up
.PHONY: install
install: $(READY) ## make the environment VENV and install the package into it

.PHONY: model
model: $(MODEL)/model.safetensors ## build the default model under models/

.PHONY: model-minilm
model-minilm: $(ENCODER)/model.safetensors ## build a small English encoder, all-MiniLM-L6-v2, under models/

##@ Work on the code
.PHONY: test
test: $(READY_DEV) ## run the tests but the slow ones
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(TEST_WORKERS) -m "not slow" $(ARGS)

.PHONY: test-all
test-all: $(READY_DEV) ## run every test
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(TEST_WORKERS) $(ARGS)

# Which tests meet another library is not written down, so that no list can age: all that "make test" runs are run.
.PHONY: test-newest
test-newest: .venv-newest/.hf_align-ready ## run the tests with the newest releases (UPDATE=1: look for newer ones)
	@$(call test_releases,newest)

.PHONY: test-oldest
test-oldest: .venv-oldest/.hf_align-ready ## run the tests with the oldest releases that setup.cfg allows
	@$(call test_releases,oldest)

.PHONY: notebooks
notebooks: $(READY_DEV) ## write notebooks/*.ipynb from their sources and run them small (ARGS=--full: real models)
	@$(PY) scripts/build_notebooks.py
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(PY) scripts/run_notebooks.py $(ARGS)

.PHONY: test-kill
test-kill: $(READY_DEV) ## kill training COUNT times (default 100), resume it, compare every bit
	OMP_NUM_THREADS=1 $(PY) scripts/kill_test.py --count $(COUNT) $(ARGS)

.PHONY: bench-sft
bench-sft: $(READY_DEV) $(MODEL)/model.safetensors ## fine-tuning against TRL's SFTTrainer on DATA's first 64 rows
	@$(PY) benchmarks/bench_sft.py $(if $(DATA),--data "$(DATA)") $(ARGS)

.PHONY: bench-dpo
bench-dpo: $(READY_DEV) $(MODEL)/model.safetensors ## DPO against TRL's DPOTrainer on DATA's first 16 single-turn pairs
	@$(PY) benchmarks/bench_dpo.py $(if $(DATA),--data "$(DATA)") $(ARGS)

.PHONY: bench-reward
bench-reward: $(READY_DEV) $(MODEL)/model.safetensors ## reward models against TRL's RewardTrainer on the same pairs
	@$(PY) benchmarks/bench_reward.py $(if $(DATA),--data "$(DATA)") $(ARGS)

.PHONY: bench-ppo
bench-ppo: $(READY_DEV) $(MODEL)/model.safetensors ## PPO against TRL 1.12, the last with PPO, which it installs beside itself
	@$(PY) benchmarks/bench_ppo.py $(if $(DATA),--data "$(DATA)") $(ARGS)

.PHONY: bench-generate
bench-generate: $(READY_DEV) $(MODEL)/model.safetensors ## sampling against model.generate: a batch, many answers to one prompt, LoRA
	@$(PY) benchmarks/bench_generate.py $(if $(DATA),--data "$(DATA)") $(ARGS)

.PHONY: bench-qlora
bench-qlora: $(READY_DEV) $(MODEL)/model.safetensors ## a LoRA step on an NF4 base against one on a bf16 base
	@$(PY) benchmarks/bench_qlora.py $(ARGS)

.PHONY: bench-adapters
bench-adapters: $(READY_DEV) $(MODEL)/model.safetensors ## every adapter method on one task: memory, speed, loss, size (DATA)
	@$(PY) benchmarks/bench_adapters.py $(if $(DATA),--data "$(DATA)") $(ARGS)

.PHONY: bench-data
bench-data: $(READY_DEV) ## measure data preparation on a million rows (ARGS="--rows 100000" for fewer)
	@$(PY) benchmarks/bench_data.py $(ARGS)

.PHONY: bench-collators
bench-collators: $(READY_DEV) ## pre-training collators against transformers' own, tokens per second
	@$(PY) benchmarks/bench_collators.py $(ARGS)

.PHONY: lint
lint: $(READY_DEV) ## check style (ruff) and types (mypy)
	$(PY) -m ruff check $(SOURCES)
	$(PY) -m ruff format --check $(SOURCES)
	$(PY) -m mypy

.PHONY: docs
docs: $(READY_DEV) ## write the reference of the Python interface to docs/api/ (HTML, from the docstrings)
	@$(PY) scripts/api_reference.py --output docs/api

.PHONY: format
format: $(READY_DEV) ## put the code into the house style (ruff)
	$(PY) -m ruff check --fix $(SOURCES)
	$(PY) -m ruff format $(SOURCES)

.PHONY: clean
clean: ## remove caches and build products; environment, models and runs stay
	rm -rf build dist docs/api *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage models/.building-*
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## list the targets
	@echo "make TARGET [VARIABLE=value ...]      (the variables are explained at the top of the Makefile)"
	@awk -F ':.*## ' '/^##@ /{printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' Makefile

# What the targets above build on.
.SECONDEXPANSION:
MODELS_OF_STAGES := $(addprefix model-of-,$(STAGES))
.PHONY: $(MODELS_OF_STAGES)
$(MODELS_OF_STAGES): model-of-%: $$(call needed_model,$$*)

RUNS_OF_STAGES := $(addprefix runs-of-,$(STAGES))
.PHONY: $(RUNS_OF_STAGES)
$(RUNS_OF_STAGES): runs-of-%: $$(call needed_run,$$*)

# Without the default model, which the quickstart only compares itself with.
runs/tokenizer/tokenizer.json: | $(READY)
	@$(PY) -m hf_align tokenizer --config recipes/tokenizer/quickstart.yaml --compare_with null

# $(call first,STAGE,RECIPE): run another recipe, with what it needs itself.
first = echo "First $@ is made: make $(1) RECIPE=$(2)"; \
	$(MAKE) --no-print-directory $(1) RECIPE="$(2)" ARGS= ACCELERATE=

runs/tokenizer_%/tokenizer.json: | $(READY)
	@$(call first,tokenizer,recipes/tokenizer/$*.yaml)

runs/pretrain/model.safetensors: | $(READY)
	@$(call first,pretrain,recipes/pretrain/quickstart.yaml)

runs/pretrain_%/model.safetensors: | $(READY)
	@$(call first,pretrain,recipes/pretrain/$*.yaml)

$(MODEL)/model.safetensors: | $(READY)
	@$(PY) scripts/build_default_model.py --output $(MODEL)

$(ENCODER)/model.safetensors: | $(READY)
	@$(PY) scripts/build_minilm_model.py --output $(ENCODER)

$(PY):
	@if [ -e "$(VENV)" ]; then \
		echo "error: VENV=$(VENV) exists but is no Python environment (it has no bin/python3)" >&2; exit 2; fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "error: hf_align needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1 | head -n 1)." \
		"Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	@echo "Making the environment $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv "$(VENV)" || { rm -rf "$(VENV)"; exit 2; }

$(READY): setup.cfg pyproject.toml scripts/check_environment.py | $(PY)
	@$(call complete,demo)
	@touch $@ 2>/dev/null || true

$(READY_DEV): setup.cfg pyproject.toml scripts/check_environment.py | $(READY)
	@$(call complete,dev)
	@touch $@ 2>/dev/null || true

# Environments of "make test-newest" and "make test-oldest". pip does not choose PyTorch here: its newest builds are
# those for GPUs, and not every machine can have its oldest.
BOUNDS := setup.cfg pyproject.toml scripts/check_environment.py
.venv-newest/.hf_align-ready: $(BOUNDS) $(if $(UPDATE),newer-releases)
	@$(call released,newest,--upgrade --upgrade-strategy eager)
.venv-oldest/.hf_align-ready: $(BOUNDS)
	@$(call released,oldest)

# A file that never is, so that what depends on it is made again.
newer-releases:

# $(call released,NAME,OPTIONS OF PIP): make or change .venv-NAME. scripts/check_environment.py writes what is held fast.
define released
set -eo pipefail; py=$(@D)/bin/python3; limits=$(@D)/constraints.txt; \
install() { $$py -m pip --disable-pip-version-check install --progress-bar off --quiet "$$@"; }; \
[ -x $$py ] || $(PYTHON) -m venv $(@D); rm -f $@; \
echo "Installing $(TORCH) and the $(1) releases into $(@D) (a few minutes)"; \
install $(2) $(TORCH); $$py scripts/check_environment.py --constraints $(1) > $$limits; \
install $(2) --editable ".[dev]" --constraint $$limits; \
$$py scripts/check_environment.py --extra dev; touch $@
endef

# $(call test_releases,NAME): say what is tested, and test it.
test_releases = py=.venv-$(1)/bin/python3; $$py -m hf_align --version && \
	echo && OMP_NUM_THREADS=1 $$py -m pytest -n $(TEST_WORKERS) -m "not slow" $(ARGS)

# $(call complete,EXTRA): install what the environment lacks, PyTorch first, since asking for the package alone
# would take PyTorch's newest build. Prints large downloads only. An environment that lacks nothing is left alone.
PIP = $(PY) -m pip --disable-pip-version-check install --progress-bar off
define complete
echo "Checking $(VENV)"; $(PY) scripts/check_environment.py --extra $(1) && exit 0; set -o pipefail; \
$(PY) -m pip --version > /dev/null 2>&1 || $(PY) -m ensurepip > /dev/null || exit 2; \
show() { awk '/Downloading .*\.whl.*MB\)/ {print "  " $$2, $$3, $$4; fflush()} \
	/^Installing collected/ {print "  installing " NF - 3 " packages"; fflush()}'; }; \
if ! $(PY) scripts/check_environment.py --only torch; then \
	echo "Installing $(TORCH)"; $(PIP) $(TORCH) | show || exit 2; fi; \
echo "Installing hf_align and what it needs (a few minutes the first time)"; \
$(PIP) --editable ".[$(1)]" | show || exit 2; $(PY) scripts/check_environment.py --extra $(1)
endef
