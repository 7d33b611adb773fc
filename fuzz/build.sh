#!/bin/sh
# Builds the fuzz targets as OSS-Fuzz asks: from $CXX, $CXXFLAGS and $LIB_FUZZING_ENGINE into $OUT, with a seed corpus and
# a dictionary beside each target. By hand:
#   CXX=clang++ CXXFLAGS='-g -O1 -fsanitize=fuzzer-no-link,address,undefined' LIB_FUZZING_ENGINE=-fsanitize=fuzzer \
#       OUT=/tmp/fuzzers fuzz/build.sh
# CMakeLists.txt builds the same targets for `flatback test`.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
: "${CXX:?}" "${OUT:?}" "${LIB_FUZZING_ENGINE:?}"
CXXFLAGS=${CXXFLAGS:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$OUT"

compile() {
    # The engine's std::expected asks GCC 12's library for a newer value of the concepts macro than clang has; not for
    # the rest, as clang before 16 can't build that library's std::variant with it.
    case $1 in
        "$root"/judge/* | "$root"/fuzz/kvm_state.cpp) concepts='-D__cpp_concepts=202002L -Wno-macro-redefined' ;;
        *) concepts= ;;
    esac
    # shellcheck disable=SC2086  # the flags are lists of words
    "$CXX" $CXXFLAGS -std=c++2b $concepts -I"$root" -c "$1" -o "$2"
}

# What the targets share, in an archive, so that each has only what it needs.
for source in "$root"/machine/cpu/*.cpp "$root"/machine/geometric/*.cpp "$root"/machine/memory/*.cpp \
    "$root"/machine/program/*.cpp "$root"/machine/retentive/*.cpp "$root"/machine/rules/*.cpp "$root"/machine/translation/*.cpp \
    "$root"/watch/*.cpp \
    "$root"/judge/trial/l1_space.cpp "$root"/judge/trial/machine_port.cpp "$root"/judge/trial/nested_world.cpp \
    "$root"/judge/trial/random_program.cpp "$root"/judge/trial/trial.cpp "$root"/metal/memory/copied_pages.cpp \
    "$root"/fuzz/*.cpp; do
    case $source in *_fuzzer.cpp) continue ;; esac
    compile "$source" "$work/$(echo "${source#"$root"/}" | tr / _).o"
done
${AR:-ar} rcs "$work/libfuzz.a" "$work"/*.o

for source in "$root"/fuzz/*_fuzzer.cpp; do
    target=$(basename "$source" .cpp)
    compile "$source" "$work/$target.o"
    # shellcheck disable=SC2086
    "$CXX" $CXXFLAGS "$work/$target.o" "$work/libfuzz.a" $LIB_FUZZING_ENGINE -o "$OUT/$target"
    for with in dict options; do
        if [ -f "$root/fuzz/$target.$with" ]; then cp "$root/fuzz/$target.$with" "$OUT/$target.$with"; fi
    done
    (cd "$root/fuzz/corpus/$target" && python3 -m zipfile -c "$OUT/${target}_seed_corpus.zip" ./*)
done
