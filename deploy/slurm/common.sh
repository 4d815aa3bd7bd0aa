# Read by both job scripts. The shared folder holds how the jobs find and trust each other:
#
#   tokens            the coordinator's list       worker-token, operator-token    one token each
#   tls/              certificates                 address                         where the coordinator is now
#   store/            the coordinator's SQLite
# shellcheck shell=bash disable=SC2034

LONGHAND=${LONGHAND:-longhand}
HERE=${SLURM_SUBMIT_DIR:-$PWD}
SHARED=${LONGHAND_SHARED:-$HERE/longhand}

fail() {
  echo "$*" >&2
  exit 2
}

# Files that hold secrets, in a folder that other users' jobs may read too.
private() {
  local file mode
  for file in "$@"; do
    [ -e "$file" ] || fail "$file is missing: run prepare.sh once, with the same LONGHAND_SHARED"
    mode=$(stat -c %a "$file")
    case $mode in
      *00) ;;
      *) fail "$file may be read by others (mode $mode): chmod 600 $file, and make new tokens if others had a look" ;;
    esac
  done
}

# Runs a program so that Slurm's signals reach it: they go to this shell, which must not sleep in the foreground.
carry() {
  local code=0
  asked=0 child=
  trap 'asked=1; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || true' TERM INT
  "$@" &
  child=$!
  [ "$asked" = 0 ] || kill -TERM "$child"
  while :; do
    code=0
    wait "$child" || code=$?
    # A signal wakes `wait` before the program has ended.
    kill -0 "$child" 2>/dev/null || break
  done
  [ "$asked" = 0 ] || again
  return "$code"
}

# Asked to stop because the time is nearly up, the job goes back into the queue. A job that was cancelled does not: Slurm
# does not call it running any more.
again() {
  [ "$(squeue --noheader --jobs "$SLURM_JOB_ID" --format %T 2>/dev/null | head -n 1)" = RUNNING ] || return 0
  echo 'asked to stop while running: back into the queue'
  scontrol requeue "$SLURM_JOB_ID" || true
}
