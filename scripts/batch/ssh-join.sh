#!/usr/bin/env bash
# The machines of one sweep by ssh, each for as long as there are runs:
#   scripts/batch/ssh-join.sh SWEEP HOST...
# WANDB_BASE_URL and WANDB_API_KEY name the server that all reach, and travel on stdin: a command line can be seen by others.
# Each host has this project installed in the same folder. Exits with 0 where all did, else with the first other code.
set -euo pipefail
: "${WANDB_BASE_URL:?the address of the sweep server}" "${WANDB_API_KEY:?its key}"
sweep=$1
shift
pids=()
for host; do
    # -tt would end the node with the connection; without it a node that is cut off works on, as long as it hears the server.
    printf '%s\n%s\n' "$WANDB_BASE_URL" "$WANDB_API_KEY" | ssh "$host" "cd '$PWD' && read -r WANDB_BASE_URL && read -r WANDB_API_KEY &&
        export WANDB_BASE_URL WANDB_API_KEY && exec parallel-hpo join '$sweep' --name '$host'" &
    pids+=($!)
done
code=0
for pid in "${pids[@]}"; do
    wait "$pid" || { ended=$?; [[ $code != 0 ]] || code=$ended; }
done
exit "$code"
