#!/usr/bin/env bash
# Everything in this folder, checked with the tools that will read it.
#
#   check.sh LONGHAND-BINARY [BINARY-OF-THE-COMMIT-BEFORE]
set -euo pipefail
longhand=$(realpath "$1") before=${2:+$(realpath "$2")}
cd "$(dirname "$0")/.."

shellcheck --severity=warning --external-sources check/*.sh slurm/*.sh slurm/*.sbatch tls/*.sh
echo 'scripts: clean'
hadolint docker/Dockerfile
echo 'Dockerfile: clean'
python3 check/chart.py 2> >(grep -v 'INFO funcMap' >&2)
kubectl kustomize kustomize/base >/dev/null
echo 'kustomize: builds'
for files in 'compose.yaml' 'compose.traces.yaml' 'observability/compose.yaml'; do
  check-jsonschema --builtin-schema vendor.compose-spec "$files" >/dev/null
done
echo 'compose: as its schema says'
# The program need not be installed for its units to be right.
units=$(mktemp -d)
trap 'rm -rf "$units"' EXIT
for unit in systemd/*.service; do sed "s|^ExecStart=/usr/local/bin/longhand|ExecStart=$longhand|" "$unit" >"$units/${unit##*/}"; done
mv "$units/longhand-worker@.service" "$units/longhand-worker@0.service"
systemd-analyze verify "$units"/*.service
# 10 is a service that may do anything; what a worker needs of a GPU costs most of its points.
systemd-analyze security --offline=yes --threshold=20 "$units/longhand-coordinator.service" >/dev/null
systemd-analyze security --offline=yes --threshold=25 "$units/longhand-worker@0.service" >/dev/null
echo 'units: verified, and as closed as they can be'
check/non-root.sh "$longhand"
check/secure-chart.sh "$longhand"
check/two-hosts.sh "$longhand"
check/slurm.sh "$longhand"
if [ -n "$before" ]; then check/rolling.sh "$before" "$longhand"; else echo 'rolling: NOT CHECKED: this checkout has no commit before'; fi
