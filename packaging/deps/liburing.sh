#!/bin/bash
# Fetches and builds liburing (static liburing.a and headers) into the cache and prints its prefix.
# Only the library: no examples, tests or shared object. Called by packaging/cmake/deps.cmake when
# the system's own liburing is older than 2.9.
# shellcheck source=packaging/deps/lib.sh
. "$(dirname "$0")/lib.sh"

dep_flags="-O2 -g0 -fPIC -ffunction-sections -fdata-sections"
case $("$CC" -dumpmachine) in x86_64-*) dep_flags+=" -fcf-protection" ;; esac

build_dep() {
    local tarball=$1 work=$2 prefix=$3
    tar -xf "$tarball" -C "$work/src" --strip-components=1
    cd "$work/src" || return 1
    ./configure --prefix="$prefix" --libdir="$prefix/lib" --cc="$CC" || return 1
    make -C src -j "$jobs" ENABLE_SHARED=0 CFLAGS="$dep_flags" install || return 1
    rm -f "$prefix"/lib/*.so*
    [ -f "$prefix/lib/liburing.a" ] && [ -f "$prefix/include/liburing.h" ]
}

dep_main liburing "$0"
