#!/bin/bash
# plant.sh [NAME...]: L0s with a fault on purpose, to see what the random L1s find (docs/random.md). For each patch in
# planted/, or those that are named, here, in ../conform/planted (docs/conformance.md) or ../watch/planted (docs/watch.md):
# build/planted/NAME.elf. Give one to ./flatback test --random MINUTES, conform or watch, with --l0 FILE.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
planted=${FLATBACK_BUILD:-$source/build}/planted
if [ $# -eq 0 ]; then
    for patch in "$here"/planted/*.patch; do set -- "$@" "$(basename "$patch" .patch)"; done
fi

# One copy of the source for all, so that only what a patch touches is compiled again.
rm -rf "$planted/source"
mkdir -p "$planted/source"
tar -C "$source" --exclude=./build --exclude='./build-*' --exclude=./.git -c . | tar -C "$planted/source" -xm
cmake -S "$planted/source" -B "$planted/build" -G Ninja >/dev/null

for name in "$@"; do
    patch=$here/planted/$name.patch
    [ -f "$patch" ] || patch=$here/../conform/planted/$name.patch
    [ -f "$patch" ] || patch=$here/../watch/planted/$name.patch
    [ -f "$patch" ] || { echo "plant.sh: there is no $patch" >&2; exit 2; }
    # Without fuzz: in its place or not at all.
    patch -s -F0 -p1 -d "$planted/source" <"$patch" || {
        echo "plant.sh: $name.patch no longer fits: plant the fault anew where its lines have gone" >&2
        exit 1
    }
    cmake --build "$planted/build" --target flatback_l0 >"$planted/log" || { tail -20 "$planted/log" >&2; exit 1; }
    # What it touched is the source's again, whatever the patch would say backwards.
    sed -n 's|^+++ b/||p' "$patch" | while read -r file; do cp "$source/$file" "$planted/source/$file"; done
    cp "$planted/build/metal/flatback-l0.elf" "$planted/$name.elf"
    echo "$planted/$name.elf"
done
