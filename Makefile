# `make` shows this list. Each first installs what it needs and the machine lacks (it prints the line
# and asks; ASSAY_INSTALL=1 answers yes), then runs. That is all they do: the ritual itself is
# cargo's.

CARGO ?= cargo
# Arguments for the demo, such as ARGS=--keep.
ARGS ?=
# libtss2 logs every refusal it is told of, expected ones too.
export TSS2_LOG ?= all+none

.DEFAULT_GOAL := help
.PHONY: help demo test test-vm vm-profiles bench fuzz oracle lint audit

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 13

demo: ## build, then run the whole story on software TPMs (ARGS=--keep leaves it running)
	@packaging/install-needs.sh demo
	$(CARGO) run -- demo $(ARGS)

test: ## build, then run every test
	@packaging/install-needs.sh test
	$(CARGO) test --workspace --no-fail-fast

test-vm: ## boot real machines (QEMU, OVMF, swtpm, IMA) with our agent inside; about five minutes
	@packaging/install-needs.sh vm
	@packaging/fetch-vm-parts.sh target/vm
	$(CARGO) test --test vm -- --ignored --nocapture machines_are_granted

vm-profiles: ## boot reference machines and write firmware-profiles/qemu anew
	@packaging/install-needs.sh vm
	@packaging/fetch-vm-parts.sh target/vm
	$(CARGO) test --test vm -- --ignored --nocapture the_shipped_profiles

bench: ## measure what docs/reference/limits.md promises
	@packaging/install-needs.sh test
	@if ls benches/*.rs >/dev/null 2>&1; then $(CARGO) bench --workspace --benches; \
	else echo "no benchmarks yet: figures come from \`make demo\` and \`make test\`"; fi

fuzz: ## fuzz each parse door for a while (SECONDS_EACH=60)
	@packaging/install-needs.sh fuzz
	@fuzz/run

oracle: ## compare verdicts with other implementations (crates that the house itself refuses)
	set -e; for oracle in attestors/*/oracle; do CARGO_TARGET_DIR=target/oracle \
	  $(CARGO) test --manifest-path $$oracle/Cargo.toml; done

lint: ## formatting and clippy, warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

audit: ## licences, bans, sources and advisories of every dependency (deny.toml)
	@command -v cargo-deny >/dev/null 2>&1 || { \
	  echo "needs cargo-deny: cargo install --locked cargo-deny"; exit 1; }
	cargo-deny check
