#!/usr/bin/env bash
# A Slurm array whose tasks share one sweep's count: create the sweep once, then submit this script with it.
#   SWEEP=$(parallel-hpo run config.json --create) sbatch --export=ALL,SWEEP scripts/batch/slurm-array.sh
#
# Two minutes before its time is over Slurm sends SIGUSR1 to this script alone (B:), not to every process as it
# does with SIGTERM, which would also end wandb's own: the running runs finish, and the task ends with 75.
# It is then put back into the queue, and goes on with what is left of its share, as it does after a node's failure.
#SBATCH --array=1-4
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail
: "${SWEEP:?create it: SWEEP=\$(parallel-hpo run config.json --create)}"
config=${CONFIG:-config.json} target=${TARGET:-train.py:main}

parallel-hpo run "$config" "$target" --sweep-id "$SWEEP" --share slurm &
hpo=$!
trap 'kill -USR1 "$hpo"' USR1
wait "$hpo"
# A trapped signal ends `wait` before the sweep has ended: wait until it has.
while kill -0 "$hpo" 2>/dev/null; do
    wait "$hpo"
done
wait "$hpo"
code=$?
# 75, or 128 + SIGUSR1 where the notice came before it listened.
if ((code == 75 || code == 138)); then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$code"
