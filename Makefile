# Everything runs in .venv, which is made when it is first needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Threads that wait for others sleep: spinning makes training 10 times slower when the cores are not ours alone.
export OMP_WAIT_POLICY ?= passive

.PHONY: demo test test-all notebooks docs figures lint format bench mnist-models clean

demo: $(INSTALLED)  ## train a small network, draw its boundary maps in figures/demo/
	$(BIN)/boundarygeo demo

test: $(INSTALLED)  ## the default tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

test-all: $(INSTALLED)  ## the slow ones, too
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile -m "not gpu"

notebooks: $(VENV)/.notebooks  ## run the notebooks into figures/notebooks/; EXAMPLES=12 for fewer examples in each
	mkdir -p figures/notebooks
	for each in notebooks/*.ipynb; do echo $$each; \
	    $(BIN)/papermill --no-progress-bar --log-level WARNING --execution-timeout 600 --cwd notebooks \
	        $(if $(EXAMPLES),-p EXAMPLES $(EXAMPLES)) $$each figures/$$each || exit; done

figures: mnist-models  ## the README's figures and their captions; only drawn where results/figures/ has what was measured
	$(BIN)/python benchmarks/figures.py

docs: $(VENV)/.docs  ## the reference, from the docstrings: docs/_build/html/index.html, which needs no network
	$(BIN)/sphinx-build --builder html --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo "open docs/_build/html/index.html"

lint: $(INSTALLED)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: demo mnist-models  ## speed and agreement, as in benchmarks/README.md (needs BOUNDARYGEO_DATA)
	$(BIN)/python benchmarks/maps_speed.py
	$(BIN)/python benchmarks/maps_agreement.py
	$(BIN)/python benchmarks/lines_speed.py
	$(BIN)/python benchmarks/dimension_speed.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/transfer_speed.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/reproducibility.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/runs_speed.py

mnist-models: $(INSTALLED)  ## the networks of some benchmarks, trained on all of MNIST (needs BOUNDARYGEO_DATA)
	@test -n "$(BOUNDARYGEO_DATA)" || { echo "set BOUNDARYGEO_DATA to the folder that holds mnist.npz"; exit 2; }
	for arch in softmax_regression mlp small_cnn; do for seed in 0 1; do \
	    test -f models/$$arch-mnist-seed$$seed.pt || $(BIN)/boundarygeo train --arch $$arch --data npz:$(BOUNDARYGEO_DATA)/mnist.npz --epochs 8 --seed $$seed \
	        --out models/$$arch-mnist-seed$$seed.pt || exit; done; done

clean:
	rm -rf $(VENV) figures/demo figures/notebooks docs/_build

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("boundarygeo needs Python 3.11 or newer, got " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo,test]'
	@touch $@

$(VENV)/.notebooks: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[notebooks]'
	@touch $@

$(VENV)/.docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@
