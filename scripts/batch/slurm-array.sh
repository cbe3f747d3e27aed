#!/usr/bin/env bash
# A Slurm array whose tasks share one sweep's count: create the sweep once, then submit this script with it.
#   SWEEP=$(parallel-hpo run config.json --create) sbatch --export=ALL,SWEEP scripts/batch/slurm-array.sh
#
# Two minutes before the time limit, Slurm sends SIGUSR1 only to this script (B:). SIGTERM would go to every process,
# and also end wandb's own. The running runs finish, and the task exits with 75. It is then requeued, and continues
# with the rest of its share, as after a node's failure.
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
# A trapped signal interrupts `wait`: repeat it until the sweep has ended.
while kill -0 "$hpo" 2>/dev/null; do
    wait "$hpo"
done
wait "$hpo"
code=$?
# 75, or 128 + SIGUSR1 if the signal came before the handler was set.
if ((code == 75 || code == 138)); then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$code"
