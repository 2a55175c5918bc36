# kosmos_ros without a ROS distribution; in one, use colcon and ros2 as the README says.

PYTHON ?= python3
SEED ?=
ARGS ?=

# The set-up keeps the Python that .venv has, unless a user names one here: make demo PYTHON=...
NAMED := $(filter-out file default undefined,$(origin PYTHON))
SETUP = @command -v $(PYTHON) > /dev/null || { \
	echo 'kosmos_ros: no $(PYTHON) here: install Python 3.10 to 3.14, or name one: make demo PYTHON=...' >&2; \
	exit 2; }; \
	$(PYTHON) kosmos_ros/setup_venv.py $(if $(NAMED),--this-python)

# Runs a command with ROS 2 from .venv, whatever else this shell has sourced.
IN_VENV = .venv/bin/python -m kosmos_ros.environment
COLCON = .venv/colcon
# In as many processes as there are cores, within what 8 GB hold.
PYTEST = $(IN_VENV) pytest --numprocesses logical --maxprocesses 4

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast nightly gpu-check lint colcon clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

setup:  ## make .venv with ROS 2 and this project in it (the other targets do that as needed)
	$(SETUP)

demo:  ## ask a simulated camera where things are; other scenes: make demo SEED=7
	$(SETUP)
	@.venv/bin/python -m kosmos_ros demo $(if $(SEED),--seed $(SEED))

test:  ## run all tests but the nightly ones; some of them: make test ARGS='-k boxes'
	$(SETUP) --with test
	@$(PYTEST) -m 'not slow' $(ARGS)

test-fast:  ## run what needs no built engine, no node as a process and no transformers
	$(SETUP) --with test
	@$(PYTEST) -m 'not (slow or parity or engines or system)' $(ARGS)

nightly:  ## run the tests that take minutes and 18 GB of memory: the released model's full depth
	$(SETUP) --with test
	@$(IN_VENV) pytest -m slow $(ARGS)

gpu-check:  ## measure this machine's GPU, in eight minutes; the report is gpu-check.json
	$(SETUP) --with test
	@PYTHONPATH=tests $(IN_VENV) python -m gpu_check $(ARGS)

lint:  ## check style and types
	$(SETUP) --with test
	@$(IN_VENV) ruff check .
	@$(IN_VENV) mypy
	@# These are skipped where there is no GPU, so nothing else would notice a call that is none.
	@MYPYPATH=tests $(IN_VENV) mypy --explicit-package-bases --follow-imports=silent \
		tests/engine/test_gpu.py tests/gpu_check

colcon:  ## build both packages as in a ROS distribution, and look at what came out
	$(SETUP) --with test
	@rm -rf $(COLCON)
	@$(IN_VENV) colcon --log-level error --log-base $(COLCON)/log build --base-paths . msg \
		--build-base $(COLCON)/build --install-base $(COLCON)/install
	@for file in \
		kosmos_ros/lib/kosmos_ros/kosmos_node \
		kosmos_ros/share/ament_index/resource_index/packages/kosmos_ros \
		kosmos_ros/share/kosmos_ros/package.xml \
		kosmos_ros/share/kosmos_ros/launch/kosmos.launch.py \
		kosmos_ros/share/kosmos_ros/engines/tabletop/manifest.json \
		kosmos_ros_msgs/share/kosmos_ros_msgs/srv/Refer.srv \
		kosmos_ros_msgs/lib/libkosmos_ros_msgs__rosidl_generator_py.so; \
	do test -e $(COLCON)/install/$$file || \
		{ echo "kosmos_ros: colcon built no $$file" >&2; exit 1; }; done

clean:  ## remove everything that the set-up, builds and runs have made
	rm -rf .venv build install log demo.png gpu-check.json \
		.hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
