# make run    start control and the agent of this machine (see README.md)
# make build  the binaries as users get them, in dist/, with the agents of this machine to roll out
# make agents then the agents to roll out for old systems too: x86_64 and aarch64, glibc 2.17
# make test   every test, with the real servers they talk to
# make check  format, lints, documentation, dependencies, tidiness
# make web    the dashboard, made anew (dashboards/web/dist is committed)
# make bench  the benchmarks, as ratios where a peer exists (tests/bench/README.md)

CARGO ?= cargo
DATA ?= data
# Arguments of tongtu-bench: `make bench BENCH="--full scale"`.
BENCH ?=
# Where cargo puts what it builds, wherever that is set.
TARGET = $(shell $(CARGO) metadata --no-deps --offline --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
AGENTS = -p tongtu-agent -p tongtu-agent-libvirt -p tongtu-simulator
WORKSPACE = --workspace --all-targets --locked

.PHONY: run build agents test check bench web

# Builds only what it runs (the default members), in the dev profile. Cold, on two cores of a slow virtual machine
# (2026-12-01), the crates at hand, that took 552 s: 946 s of CPU time, and 90 s of the kernel's.
run:
	@scripts/install.sh run
	$(CARGO) build --locked
	@scripts/run.sh $(TARGET)/debug $(DATA)

build:
	@scripts/install.sh build
	$(CARGO) build --locked --release -p tongtu
	$(CARGO) build --locked --profile agent $(AGENTS)
	mkdir -p dist
	cp $(TARGET)/release/tongtu $(TARGET)/agent/tongtu-agent $(TARGET)/agent/tongtu-agent-libvirt $(TARGET)/agent/tongtu-simulator dist/
	scripts/agents.sh pack dist/tongtu-agent dist/tongtu-agent-libvirt
	@ls -l dist

agents:
	CARGO="$(CARGO)" scripts/agents.sh build

# All targets in one step: the tests and the binaries they start then share every artefact.
test:
	@scripts/install.sh test
	$(CARGO) build $(WORKSPACE)
	scripts/with-postgres.sh $(CARGO) test --workspace --locked --no-fail-fast
	scripts/web.sh check
	scripts/web.sh walk $(TARGET)/debug

check:
	@scripts/install.sh test
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(WORKSPACE) -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked
	@command -v cargo-deny >/dev/null || { echo "installing cargo-deny"; $(CARGO) install cargo-deny --locked --quiet; }
	$(CARGO) deny --locked --workspace check bans licenses sources
	$(CARGO) test --locked -p tongtu-tests --test tidy

# After a change in dashboards/web or src/openapi.json: the committed build is compiled into control.
web:
	scripts/web.sh build

bench:
	@scripts/install.sh bench
	$(CARGO) build --locked --release -p tongtu -p tongtu-simulator -p tongtu-tests
	$(CARGO) build --locked --profile agent -p tongtu-agent -p tongtu-agent-libvirt
	$(TARGET)/release/tongtu-bench $(BENCH)
