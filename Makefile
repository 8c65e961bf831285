# Every target installs what it lacks on Debian or Ubuntu (as root or with sudo), or says in one line what to install.

SHELL := /bin/bash
export PATH := $(PATH):/usr/sbin:/sbin:$(HOME)/.cargo/bin
NEED := e2e/scripts/need.sh

BUILD_NEEDS := cc=build-essential protoc=protobuf-compiler /usr/include/google/protobuf/descriptor.proto=libprotobuf-dev
LAB_NEEDS := ip=iproute2 nft=nftables ping=iputils-ping sysctl=procps bird=bird2 tcpdump=tcpdump etcdctl=etcd-client
SPEAKER_NEEDS := /usr/lib/frr/bgpd=frr vtysh=frr gobgpd=gobgpd gobgp=gobgpd exabgp=exabgp
FIREWALL_NEEDS := firewalld=firewalld dbus-daemon=dbus dockerd=docker.io iptables=iptables gzip=gzip
STORE_NEEDS := etcd=etcd-server
VM_NEEDS := qemu-system-x86_64=qemu-system-x86 python3=python3 /usr/share/doc/python3-venv=python3-venv

PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60
SOAK_SECONDS ?= 400
# glibc takes memory in pages of 2 MiB where the kernel has them: gigabytes of small things are found sooner.
HUGE_PAGES := GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1

.PHONY: help build demo test soak e2e check deps-check deny fmt bench fuzz vm-test install clean

help: ## this list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

build: ## the binaries, for development
	@command -v cargo >/dev/null || { echo "missing: a Rust toolchain (cargo); install it with rustup" >&2; exit 1; }
	@$(NEED) $(BUILD_NEEDS)
	cargo build --workspace --bins

demo: build ## the product's main job, step by step, in namespaces; needs no root
	@$(NEED) $(LAB_NEEDS)
	target/debug/tortie-lab demo

test: build ## unit, contract and namespace end-to-end tests
	@$(NEED) $(LAB_NEEDS) $(STORE_NEEDS) $(SPEAKER_NEEDS) $(FIREWALL_NEEDS)
	cargo test --workspace
	TORTIE_POLICY_CASES=100000 cargo test --profile bench --package tortie-policy --test equivalence

soak: ## an etcd cluster whose members die, hang and lose each other, for SOAK_SECONDS (400); more of what `test` samples
	@$(NEED) $(BUILD_NEEDS) $(STORE_NEEDS) kill=procps
	SOAK_SECONDS=$(SOAK_SECONDS) cargo test --package tortie-datastore --test contract -- --ignored --exact failures::soak --nocapture
	TORTIE_DIFFERENTIAL_CASES=20 cargo test --package tortie-datastore --test contract -- differential
	TORTIE_POLICY_CASES=2000000 cargo test --profile bench --package tortie-policy --test equivalence
	cargo test --package tortie-datastore --test ipam -- --ignored soak_ --nocapture
	$(HUGE_PAGES) cargo test --profile bench --package tortie-bgp --test mesh -- --ignored --nocapture # needs 3.5 GiB and three minutes of a processor

e2e: build ## only the end-to-end tests
	@$(NEED) $(LAB_NEEDS) $(STORE_NEEDS) $(SPEAKER_NEEDS) $(FIREWALL_NEEDS)
	cargo test --package tortie-e2e --lib --bins --test demo --test main_job --test beside --test leaks --test mixed_mesh
	TORTIE_KILLS=20 cargo test --package tortie-e2e --test kills
	TORTIE_REAL_PACKETS=20000 cargo test --package tortie-policy --test real_packets
	cargo test --package tortie-e2e --test interop -- --test-threads 6 # they mostly wait

check: deps-check deny ## formatting, lints, docs, licences, direction of dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items
	cargo build --package tortie-bgp --no-default-features

deps-check: ## our crates depend on each other in one direction only
	@$(NEED) $(BUILD_NEEDS)
	@e2e/scripts/deps-check.sh

deny: ## licences and sources of dependencies
	@command -v cargo-deny >/dev/null || cargo install cargo-deny --locked
	cargo deny --log-level error check bans licenses sources

bench: ## benchmarks, then a table of their main figures
	@$(NEED) $(BUILD_NEEDS) $(STORE_NEEDS) $(SPEAKER_NEEDS) jq=jq ip=iproute2 nft=nftables bird=bird2
	cargo bench --workspace --bench '*'
	@e2e/scripts/bench-table.sh
	@e2e/bench/compare.sh
	@e2e/bench/crowd.sh

fuzz: ## every fuzz target for FUZZ_SECONDS (60)
	@$(NEED) $(BUILD_NEEDS) c++=g++
	@command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
	e2e/fuzz/run.sh $(FUZZ_SECONDS)

vm-test: build ## the end-to-end tests in a VM with a stock Debian kernel: real IPIP
	@$(NEED) $(LAB_NEEDS) $(STORE_NEEDS) $(VM_NEEDS)
	e2e/vm/run.sh demo main_job ipip # what depends on the kernel; leaks.rs does not

install: ## release binaries into PREFIX (/usr/local) and the CNI plugin into /opt/cni/bin
	@$(NEED) $(BUILD_NEEDS)
	TORTIE_GIT_COMMIT=$$(git rev-parse --short HEAD 2>/dev/null || echo unknown) \
		cargo build --release --package tortie-agent --package tortie-ctl --package tortie-bgpd
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin target/release/tortie-node target/release/tortiectl target/release/tortie-bgpd
	install -D -m 0755 -t $(DESTDIR)/opt/cni/bin target/release/tortie-cni

clean: ## what was built
	cargo clean
