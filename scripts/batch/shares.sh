#!/usr/bin/env bash
# Run one sweep with N launches at once on this machine, each with its share of the count and of the devices:
#   scripts/batch/shares.sh N CONFIG TARGET [options of parallel-hpo run]
# The exit code is 0 if all launches exit with 0, else the first other code.
set -euo pipefail
shares=$1 config=$2 target=$3
shift 3
hpo=(python3 -m parallel_hpo run "$config")

# One line per share: its part of the devices that a single launch would use; with more shares than devices, devices repeat.
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
