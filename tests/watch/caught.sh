#!/bin/bash
# caught.sh [NAME...]: L0s with a fault on purpose, each of which a window of `flatback watch` must find stale translations
# with (docs/watch.md). Without names: all that are known to be found. Prints a line for each; status 1 where one is not caught.
set -euo pipefail
source=$(cd "$(dirname "$0")/../.." && pwd)
build=${FLATBACK_BUILD:-$source/build}
if [ $# -eq 0 ]; then
    set -- invvpid-of-a-context-dropped invvpid-of-an-address-dropped invvpid-of-another-tag invvpid-of-the-next-page \
        invept-of-the-processor-left-out invept-of-another-root
fi
status=0
for name in "$@"; do
    "$source/tests/random/plant.sh" "$name" >/dev/null
    if "$build/tools/flatback" watch --guest probes --mode mapped --l0 "$build/planted/$name.elf" \
        --json "$build/planted/$name.json" >"$build/planted/$name.txt" 2>&1; then
        echo "$name: not caught"
        status=1
    elif stale=$(sed -n 's/^ *"stale": \([0-9]*\),$/\1/p' "$build/planted/$name.json") && [ "${stale:-0}" -gt 0 ]; then
        echo "$name: caught, $stale stale accesses"
    else
        echo "$name: the run went wrong:" && tail -5 "$build/planted/$name.txt"
        status=1
    fi
done
exit $status
