#!/usr/bin/env bash
# One sweep, performed by N launches at once on this machine, each with its share of the count and of the devices:
#   scripts/batch/shares.sh N CONFIG TARGET [options of parallel-hpo run]
# Exits with 0 where all did, else with the first code that is another.
set -euo pipefail
shares=$1 config=$2 target=$3
shift 3
hpo=(python3 -m parallel_hpo run "$config")

# A line for each share: its part of the devices that one launch alone would use; more shares than devices take turns.
plan=$("${hpo[@]}" --dry-run --json "$@")
devices=$(python3 -c '
import json, sys
names, shares = json.load(sys.stdin)["devices"], int(sys.argv[1])
for i in range(shares):
    print(",".join(names[i::shares] or names[i % len(names):][:1]) if names else "")
' "$shares" <<<"$plan")
sweep=$("${hpo[@]}" --create "$@")
echo "sweep $sweep in $shares shares" >&2
pids=()
for ((i = 1; i <= shares; i++)); do
    own=$(sed -n "${i}p" <<<"$devices")
    "${hpo[@]}" "$target" "$@" --sweep-id "$sweep" --share "$i/$shares" ${own:+"--devices=$own"} &
    pids+=($!)
done
code=0
for pid in "${pids[@]}"; do
    wait "$pid" || { ended=$?; [[ $code != 0 ]] || code=$ended; }
done
echo "$sweep"
exit "$code"
