#!/usr/bin/env bash
# One sweep, performed by N launches at once, each with its share of the count:
#   scripts/batch/shares.sh N CONFIG TARGET [options of parallel-hpo run]
# Exits with 0 where all did, else with the first code that is another.
set -euo pipefail
shares=$1 config=$2 target=$3
shift 3
hpo=(python3 -m parallel_hpo run "$config")

sweep=$("${hpo[@]}" --create "$@")
echo "sweep $sweep in $shares shares" >&2
pids=()
for ((i = 1; i <= shares; i++)); do
    "${hpo[@]}" "$target" --sweep-id "$sweep" --share "$i/$shares" "$@" &
    pids+=($!)
done
code=0
for pid in "${pids[@]}"; do
    wait "$pid" || { ended=$?; [[ $code != 0 ]] || code=$ended; }
done
echo "$sweep"
exit "$code"
