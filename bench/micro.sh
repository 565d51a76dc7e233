#!/bin/sh
# Builds and runs one micro bench (bench/micro/NAME.c) in the profile bench: bench/micro.sh route.
# Without a name: all of them. BENCH_BUILD: where to build (default build/bench).
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=${BENCH_BUILD:-$root/build/bench}
cmake -S "$root" -B "$build" -DWEIR_PROFILE=bench -DWEIR_TESTS=OFF -DWEIR_WERROR=OFF \
    -DWEIR_BENCH=ON --log-level=WARNING >&2
[ $# -gt 0 ] || set -- $(cd "$root/bench/micro" && ls -- *.c | sed 's/\.c$//')
for name in "$@"; do
    cmake --build "$build" --target "bench-micro-$name" >&2
    "$(find "$build" -name "bench-micro-$name" -type f | head -n 1)"
done
