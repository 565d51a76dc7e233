#!/bin/sh
# Measures weir beside nginx, HAProxy and h2o: one command that installs them, Redis and PostgreSQL
# from Debian when they are missing (their services are not started), builds the bench programs and
# the release binary, and runs bench/compare. --help lists the options; bench/README.md says how to
# read the result.
# WEIR_BIN: a binary to measure instead of building one. BENCH_BUILD: where to build the programs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
build=${BENCH_BUILD:-$root/build/bench-programs}
policy=/usr/sbin/policy-rc.d
PATH=$PATH:/usr/sbin:/sbin

say() { printf 'bench: %s\n' "$*" >&2; }

missing() {
    for program in nginx haproxy openssl cmake; do
        command -v "$program" >/dev/null || printf '%s ' "$program"
    done
    [ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || printf 'libnginx-mod-stream '
    command -v cc >/dev/null || printf 'gcc libc6-dev '
    [ -x /usr/bin/python3 ] || printf 'python3 '
    [ -e /usr/include/openssl/ssl.h ] || printf 'libssl-dev '
    command -v make >/dev/null || command -v ninja >/dev/null || printf 'ninja-build '
}

# What only some rows need; they are left out where it cannot be had.
missing_for_rows() {
    command -v h2load >/dev/null || printf 'nghttp2-client '
    command -v h2o >/dev/null || ! apt-cache show h2o >/dev/null 2>&1 || printf 'h2o '
    command -v redis-server >/dev/null || printf 'redis-server '
    command -v redis-benchmark >/dev/null || printf 'redis-tools '
    ls /usr/lib/postgresql/*/bin/pgbench >/dev/null 2>&1 || printf 'postgresql '
}

# Exit code 101 of policy-rc.d tells Debian's maintainer scripts to start no service.
apt_install() {
    say "installing $*"
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    made=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
        $sudo chmod 755 "$policy"
        made=1
        trap '$sudo rm -f "$policy"' EXIT
    fi
    apt="$sudo apt-get -qq -o DPkg::Lock::Timeout=300"
    status=0
    $apt install -y --no-install-recommends "$@" >&2 || {
        $apt update >&2
        $apt install -y --no-install-recommends "$@" >&2
    } || status=1
    if [ -n "$made" ]; then
        $sudo rm -f "$policy"
        trap - EXIT
    fi
    return "$status"
}

install_missing() {
    packages=$(missing)
    # shellcheck disable=SC2086
    [ -z "$packages" ] || apt_install $packages
    for package in $(missing_for_rows); do
        apt_install "$package" || say "no $package: its rows are left out"
    done
}

build_weir() {
    for argument in "$@"; do
        case $argument in --without-weir | --help | -h) return 0 ;; esac
    done
    if [ -z "${WEIR_BIN:-}" ]; then
        say "building the release preset"
        (cd "$root" && cmake --preset release && cmake --build --preset release) >&2
        WEIR_BIN=$root/build/release/weir
    fi
}

install_missing
cmake -S "$here" -B "$build" -DCMAKE_BUILD_TYPE=Release >/dev/null
cmake --build "$build" >/dev/null
build_weir "$@"
# As root: a network of its own, whose loopback nobody else uses and whose settings can be chosen.
own=
[ "$(id -u)" != 0 ] || ! unshare --net true 2>/dev/null || own='unshare --net --'
# shellcheck disable=SC2086
exec $own /usr/bin/python3 -B "$here/compare" ${own:+--own-network} \
    --programs "$build" --weir "${WEIR_BIN:-}" "$@"
