#!/bin/bash
# Fetches and builds BoringSSL (static libssl.a, libcrypto.a) into the cache and prints its prefix.
# Full-speed build: never OPENSSL_SMALL. WEIR_DEPS_SANITIZE=thread makes an instrumented one for
# the tsan preset. Called by packaging/cmake/deps.cmake. The build itself is
# boringssl/CMakeLists.txt.
# shellcheck source=packaging/deps/lib.sh
. "$(dirname "$0")/lib.sh"

dep_flags="-O3 -g0 -fPIC -fno-plt -fvisibility=hidden -ffunction-sections -fdata-sections"
dep_flags+=" -fstack-protector-strong -fstack-clash-protection"
case $("$CC" -dumpmachine) in x86_64-*) dep_flags+=" -fcf-protection" ;; esac
[ -z "${WEIR_DEPS_SANITIZE:-}" ] || dep_flags+=" -fsanitize=$WEIR_DEPS_SANITIZE"

build_dep() {
    local tarball=$1 work=$2 prefix=$3
    tar -xf "$tarball" -C "$work/src" --strip-components=1
    cmake -S "$deps_dir/boringssl" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=None \
        -DCMAKE_C_COMPILER="$CC" -DCMAKE_CXX_COMPILER="$CXX" \
        -DCMAKE_C_FLAGS="$dep_flags" -DCMAKE_CXX_FLAGS="$dep_flags" \
        -DCMAKE_INSTALL_PREFIX="$prefix" -DCMAKE_INSTALL_LIBDIR=lib \
        -DBORINGSSL_SOURCE="$work/src" || return 1
    cmake --build "$work/build" -j "$jobs" --target install
}

dep_main boringssl "$0" "$deps_dir/boringssl/CMakeLists.txt"
