#!/usr/bin/env bash
# Once, on the login node: makes the shared folder with tokens that only you can read.
#
#   LONGHAND_SHARED=/shared/you/longhand ./prepare.sh
set -euo pipefail
SLURM_SUBMIT_DIR=$PWD
# shellcheck source=SCRIPTDIR/common.sh
. "$(dirname "$0")/common.sh"

umask 077
mkdir -p "$SHARED/store"
token() { head -c 32 /dev/urandom | base64 | tr -d '/+=\n'; }
if [ ! -e "$SHARED/tokens" ]; then
  worker=$(token) operator=$(token)
  echo "$worker" >"$SHARED/worker-token"
  echo "$operator" >"$SHARED/operator-token"
  printf 'worker %s\noperator %s\n' "$worker" "$operator" >"$SHARED/tokens.part"
  mv "$SHARED/tokens.part" "$SHARED/tokens"
fi
chmod 700 "$SHARED"
private "$SHARED/tokens" "$SHARED/worker-token" "$SHARED/operator-token"
echo "ready: $SHARED"
