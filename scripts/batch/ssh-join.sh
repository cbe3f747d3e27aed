#!/usr/bin/env bash
# Start the machines of one sweep by ssh; each works until there are no more runs:
#   scripts/batch/ssh-join.sh SWEEP HOST...
# WANDB_BASE_URL and WANDB_API_KEY name a server that all can reach. They are sent on stdin, as others can see command
# lines. Each host needs this project in the same folder. The exit code is 0 if all exit with 0, else the first other one.
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
