#!/bin/bash
# Fetches and builds AWS-LC (static libssl.a, libcrypto.a), the fork with ML-KEM and faster
# assembly, into the cache and prints its prefix. The sources come from Debian's rust-aws-lc-sys,
# which carries the generated assembly: no Go, no Perl. Called by packaging/cmake/deps.cmake for
# -DWEIR_TLS=aws-lc.
# shellcheck source=packaging/deps/lib.sh
. "$(dirname "$0")/lib.sh"

dep_flags="-O2 -g0 -fPIC -fno-plt -fvisibility=hidden -ffunction-sections -fdata-sections"
dep_flags+=" -fstack-protector-strong -fstack-clash-protection"
case $("$CC" -dumpmachine) in x86_64-*) dep_flags+=" -fcf-protection" ;; esac
[ -z "${WEIR_DEPS_SANITIZE:-}" ] || dep_flags+=" -fsanitize=$WEIR_DEPS_SANITIZE"

build_dep() {
    local tarball=$1 work=$2 prefix=$3
    tar -xf "$tarball" -C "$work/src" --strip-components=1
    cmake -S "$work/src/aws-lc" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=None \
        -DCMAKE_C_COMPILER="$CC" -DCMAKE_CXX_COMPILER="$CXX" \
        -DCMAKE_C_FLAGS="$dep_flags -DNDEBUG" -DCMAKE_CXX_FLAGS="$dep_flags -DNDEBUG" \
        -DCMAKE_ASM_FLAGS="$dep_flags" -DCMAKE_INSTALL_PREFIX="$prefix" \
        -DCMAKE_INSTALL_LIBDIR=lib -DDISABLE_GO=ON -DDISABLE_PERL=ON -DBUILD_TESTING=OFF \
        -DBUILD_TOOL=OFF -DBUILD_SHARED_LIBS=OFF || return 1
    cmake --build "$work/build" -j "$jobs" --target install
}

dep_main aws-lc "$0"
