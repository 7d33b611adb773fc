#!/bin/sh
# Builds the fuzz targets as OSS-Fuzz asks: from $CXX, $CXXFLAGS and $LIB_FUZZING_ENGINE into $OUT, with a seed corpus and
# a dictionary beside each target. By hand:
#   CXX=clang++ CXXFLAGS='-g -O1 -fsanitize=fuzzer-no-link,address,undefined' LIB_FUZZING_ENGINE=-fsanitize=fuzzer \
#       OUT=/tmp/fuzzers fuzz/build.sh
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
: "${CXX:?}" "${OUT:?}" "${LIB_FUZZING_ENGINE:?}"
CXXFLAGS=${CXXFLAGS:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$OUT"

standard=-std=c++2b

objects=
for source in "$root"/fuzz/judged_program.cpp "$root"/machine/cpu/*.cpp "$root"/machine/geometric/*.cpp \
    "$root"/machine/memory/*.cpp "$root"/machine/program/*.cpp "$root"/machine/retentive/*.cpp \
    "$root"/machine/translation/*.cpp; do
    object=$work/$(echo "$source" | sed "s|$root/||; s|/|_|g").o
    # shellcheck disable=SC2086  # the flags are lists of words
    "$CXX" $CXXFLAGS $standard -I"$root" -c "$source" -o "$object"
    objects="$objects $object"
done
for target in machine_program_fuzzer machine_text_fuzzer; do
    # shellcheck disable=SC2086
    "$CXX" $CXXFLAGS $standard -I"$root" "$root/fuzz/$target.cpp" $objects $LIB_FUZZING_ENGINE -o "$OUT/$target"
    if [ -f "$root/fuzz/$target.dict" ]; then cp "$root/fuzz/$target.dict" "$OUT/$target.dict"; fi
    (cd "$root/fuzz/corpus/$target" && python3 -m zipfile -c "$OUT/${target}_seed_corpus.zip" ./*)
done
