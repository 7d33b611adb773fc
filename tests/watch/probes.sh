#!/bin/bash
# probes.sh [--planted]: for each of the bare L1's probes for stale translations, which L0 with a fault on purpose it fails on: by a translation
# that a processor with tags could have used (a window of `flatback watch`), or by what it read in the emulator (docs/watch.md).
# Prints a line a probe, and a closing line; status 1 where one fails on none, or where the L0 without a fault fails one.
# --planted: the L0s with faults were built before.
set -euo pipefail
source=$(cd "$(dirname "$0")/../.." && pwd)
build=${FLATBACK_BUILD:-$source/build}
watched="nothing-invalidated tags-in-turn tags-in-turn-and-nothing-invalidated"
# What this one keeps is in its tables, and the emulator shows it.
seen="invept-single-context-forgotten"

# The checks of a run that failed, or with stale accesses: its JSON has each with its name, its outcome, its stale accesses.
caught() {
    awk -F'"' '
        / "name":/ { name = $4; failed = 0; next }
        / "passed": false/ { failed = 1 }
        name != "" && / "stale":/ { split($3, value, /[ ,:]+/); if (failed || value[2] > 0) print name; name = "" }' "$1"
}

watch() {
    local status=0
    "$build/tools/flatback" watch --guest probes --mode mapped --window 120000000 "${@:2}" --json "$build/planted/probes.$1.json" \
        >"$build/planted/probes.$1.txt" 2>&1 || status=$?
    # 1: something was found.
    [ "$status" -le 1 ] || { tail -5 "$build/planted/probes.$1.txt" >&2; exit 1; }
}

# The same of `conform`, whose JSON has each with its outcome.
failed() {
    awk -F'"' '/ "name":/ { name = $4 } / "outcome": "failed"/ { print name }' "$1"
}

mkdir -p "$build/planted"
# shellcheck disable=SC2086  # one word a fault is meant
[ "${1:-}" = --planted ] || "$source/tests/random/plant.sh" $watched $seen >/dev/null
watch none
for name in $watched; do watch "$name" --l0 "$build/planted/$name.elf"; done
"$build/tools/flatback" conform --no-costs --only 'stale*' --l0 "$build/planted/$seen.elf" --json "$build/planted/probes.$seen.json" >/dev/null 2>&1 || :

status=0
total=0
unable=0
for probe in $(sed -n 's/^ *"name": "\(no-stale-.*\)",$/\1/p' "$build/planted/probes.none.json"); do
    total=$((total + 1))
    by=
    for name in $watched; do
        # Not grep -q, which ends at the first match: the writer's SIGPIPE would be taken for none.
        if caught "$build/planted/probes.$name.json" | grep -xF "$probe" >/dev/null; then by="$by $name"; fi
    done
    if failed "$build/planted/probes.$seen.json" | grep -xF "$probe" >/dev/null; then by="$by $seen"; fi
    [ -n "$by" ] || unable=$((unable + 1))
    echo "$probe:${by:- fails on none of them}"
done
if [ -n "$(caught "$build/planted/probes.none.json")" ]; then
    echo "of the L0 without a fault: $(caught "$build/planted/probes.none.json")"
    status=1
fi
echo "$total probes, $unable of which fail on none of: $watched $seen"
[ "$unable" = 0 ] && [ "$total" -gt 0 ] || status=1
exit $status
