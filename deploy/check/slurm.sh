#!/usr/bin/env bash
# A real Slurm of one node on this machine: coordinator job, worker array, a corpus; one worker is preempted in the middle.
#
#   slurm.sh LONGHAND-BINARY
set -euo pipefail
longhand=$(realpath "$1")
deploy=$(realpath "$(dirname "$0")/..")
# shellcheck source=SCRIPTDIR/common.sh
. "$deploy/check/common.sh"
[ "$(id -u)" = 0 ] || { echo 'slurm: needs root: slurmd starts jobs as other users' >&2; exit 1; }
for program in slurmctld slurmd munged sbatch; do
  command -v "$program" >/dev/null || { echo "slurm: $program is missing: run \`make deploy-deps\`" >&2; exit 1; }
done

work=$(mktemp -d /tmp/longhand-slurm.XXXXXX)
chmod 755 "$work"
pids=()
finish() {
  code=$?
  if [ "$code" != 0 ]; then
    for file in "$work"/*.log "$work"/shared-logs/*.log; do [ ! -e "$file" ] || { echo "--- $file"; tail -n 25 "$file"; } >&2; done
  fi
  scancel --user=root >/dev/null 2>&1 || true
  [ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$work"
  exit "$code"
}
trap finish EXIT


# Munge: who is who between the daemons.
mkdir -p "$work/munge"
dd if=/dev/urandom of="$work/munge/key" bs=128 count=1 status=none
chmod 700 "$work/munge"; chmod 400 "$work/munge/key"; chmod 711 "$work/munge"
munged --force --foreground --num-threads 2 --key-file "$work/munge/key" --socket "$work/munge/socket" \
  --log-file "$work/munge.log" --pid-file "$work/munge/pid" --seed-file "$work/munge/seed" >"$work/munged.log" 2>&1 &
pids+=($!)
until_true 20 'munged' test -S "$work/munge/socket"

host=$(hostname -s)
cores=$(nproc)
cat >"$work/slurm.conf" <<CONF
ClusterName=longhand
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
AuthType=auth/munge
# A requeued job starts again when its credential has expired: after two minutes, unless told otherwise.
AuthInfo=socket=$work/munge/socket,cred_expire=5
CryptoType=crypto/munge
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
JobRequeue=1
SchedulerParameters=batch_sched_delay=1,sched_interval=1,bf_interval=1
KillWait=30
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cores State=UNKNOWN RealMemory=2000
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:8
CONF
export SLURM_CONF=$work/slurm.conf
mkdir -p "$work/state" "$work/spool" "$work/shared-logs"
slurmctld -D >"$work/slurmctld.out.log" 2>&1 &
pids+=($!)
slurmd -D >"$work/slurmd.out.log" 2>&1 &
pids+=($!)
until_true 60 'the node' sh -c "sinfo --noheader --format %t 2>/dev/null | grep -qE 'idle|mix|alloc'"

cd "$work/shared-logs"
export LONGHAND=$longhand LONGHAND_SHARED=$work/shared LONGHAND_SLURM=$deploy/slurm LONGHAND_HTTP=off
export LONGHAND_PORT
LONGHAND_PORT=$(free_port)
"$deploy/slurm/prepare.sh" >/dev/null
chmod 644 "$work/shared/worker-token"
if LONGHAND_ENGINE=mock bash "$deploy/slurm/worker.sbatch" 2>"$work/refused.log"; then
  echo 'slurm: a token that everybody can read was used' >&2; exit 1
fi
grep -q 'chmod 600' "$work/refused.log"
chmod 600 "$work/shared/worker-token"

small=(--cpus-per-task=1 --mem=0)
coordinator=$(sbatch --parsable "${small[@]}" "$deploy/slurm/coordinator.sbatch")
until_true 60 'the coordinator' test -s "$work/shared/address"
operator() {
  "$longhand" "$@" --coordinator "$(cat "$work/shared/address")" --token-file "$work/shared/operator-token" \
    --tls-ca "$work/shared/tls/ca.pem"
}
instructions 24 >"$work/instructions.jsonl"
operator submit "$work/instructions.jsonl" --run-id slurm >/dev/null

export LONGHAND_ENGINE=mock LONGHAND_MOCK_TOKENS_PER_SECOND=200 LONGHAND_MAX_SEQUENCES=3 LONGHAND_EXIT_IDLE=5
workers=$(sbatch --parsable "${small[@]}" --array=0-1 "$deploy/slurm/worker.sbatch")
ended() { count slurm accepted rejected failed cancelled; }
some_ended() { [ "$(ended)" -ge 3 ]; }
until_true 120 'the first documents' some_ended
# What preemption does to a job: a signal, time to react, back into the queue.
scontrol requeue "${workers}_0"
echo 'slurm: worker 0 preempted'
# The preempted worker must come back while there is work, or nothing would be shown.
anew() { grep -qs 'started anew by Slurm, time 1' "$work/shared-logs/longhand-worker-${workers}_0.log"; }
until_true 60 'the return of worker 0' anew
all_ended() { [ "$(ended)" = 24 ]; }
until_true 240 'the end of all documents' all_ended
operator export slurm -o "$work/corpus" >/dev/null
whole "$work/corpus" 24
grep -q 'texts completed' "$work/shared-logs/longhand-worker-${workers}_0.log"
idle() { [ -z "$(squeue --noheader --jobs "$workers" 2>/dev/null)" ]; }
until_true 90 'the end of idle workers' idle
scancel "$coordinator"
gone() { [ -z "$(squeue --noheader 2>/dev/null)" ]; }
until_true 60 'the end of the cancelled coordinator' gone
grep -q stopped longhand-coordinator.log
echo 'slurm: one preemption in the middle, nothing lost, idle workers and the cancelled coordinator ended'
