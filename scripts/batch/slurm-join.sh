#!/usr/bin/env bash
# A Slurm array whose tasks are machines of one sweep: each takes of its runs as long as there are any.
# Create the sweep once on a server that all reach (WANDB_BASE_URL, WANDB_API_KEY), then submit this with it:
#   SWEEP=$(parallel-hpo run config.json train.py:main --create) sbatch --export=ALL,SWEEP scripts/batch/slurm-join.sh
#
# Two minutes before its time is over Slurm sends SIGUSR1 to this script alone (B:), not to every process: the
# running runs finish, and the task ends with 75. It is then put back into the queue, and joins again. A node that
# fails is put back too; its runs have long been run elsewhere by then.
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
# A trapped signal ends `wait` before the node has ended: wait until it has.
while kill -0 "$node" 2>/dev/null; do
    wait "$node"
done
wait "$node"
code=$?
# 75, or 128 + SIGUSR1 where the notice came before it listened.
if ((code == 75 || code == 138)); then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$code"
