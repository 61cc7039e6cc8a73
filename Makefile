# Two commands set everything up: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= out/demo

.PHONY: demo test test-all test-integrations docs notebooks lint gpu-kit clean

demo: $(VENV)/.installed
	$(BIN)/skiagraph generate --reports examples/reports.csv -o $(OUT)

test: $(VENV)/.installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/python -m pytest

test-all: $(VENV)/.installed
	$(BIN)/python -m pytest -m ''

test-integrations: $(VENV)-integrations/.installed
	$(VENV)-integrations/bin/python -m pytest -m '' tests/integrations tests/models/test_biomedclip.py tests/models/test_hub.py \
	  tests/pipelines/test_published_models.py tests/cli/test_published_verbs.py tests/engine/test_convert.py tests/training/test_fine_tune.py

docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict -d out/site

notebooks: $(VENV)/.installed
	TQDM_DISABLE=1 PYTHONWARNINGS=ignore $(BIN)/jupyter nbconvert --log-level WARN --to notebook --execute --inplace docs/notebooks/*.ipynb

lint: $(VENV)/.installed
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

gpu-kit: $(VENV)/.installed
	$(BIN)/python gpu-kit/pack.py $(or $(RECIPE),recipes/shipped-text-to-image-gpu.yaml) -o out/gpu-kit --part-mb $(or $(PART_MB),60)

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# A second environment: what needs torchvision needs the registry's own torch, which brings CUDA (5 GB).
$(VENV)-integrations/.installed: pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)-integrations
	$(VENV)-integrations/bin/python -m pip install --quiet --editable '.[integrations,lora,radiomics]' pytest hypothesis \
	  versioneer cython setuptools wheel
	$(VENV)-integrations/bin/python -m pip install --quiet --no-build-isolation pyradiomics
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-integrations out runs .pytest_cache .ruff_cache
