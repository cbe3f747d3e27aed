#!/usr/bin/env bash
# A Slurm array whose tasks are machines of one sweep: each takes runs until there are no more.
# Create the sweep once on a server that all can reach (WANDB_BASE_URL, WANDB_API_KEY), then submit this script with it:
#   SWEEP=$(parallel-hpo run config.json train.py:main --create) sbatch --export=ALL,SWEEP scripts/batch/slurm-join.sh
#
# Two minutes before the time limit, Slurm sends SIGUSR1 only to this script (B:), not to every process. The running
# runs finish, and the task exits with 75. It is then requeued, and joins again. A task whose node fails is requeued
# too; its runs have been retried elsewhere by then.
#SBATCH --array=1-4
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail
: "${SWEEP:?create it: SWEEP=\$(parallel-hpo run config.json train.py:main --create)}"

parallel-hpo join "$SWEEP" --name "$(hostname -s)-$SLURM_ARRAY_TASK_ID" &
node=$!
trap 'kill -USR1 "$node"' USR1
wait "$node"
# A trapped signal interrupts `wait`: repeat it until the node has ended.
while kill -0 "$node" 2>/dev/null; do
    wait "$node"
done
wait "$node"
code=$?
# 75, or 128 + SIGUSR1 if the signal came before the handler was set.
if ((code == 75 || code == 138)); then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$code"
