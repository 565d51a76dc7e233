# Installs missing Debian packages. Sourced by run.sh and test.sh: packages_need NAME... does
# nothing when all are there; else it uses apt as root or through sudo, or says what to run.
# Services of new packages (nginx, haproxy, redis-server, postgresql) are neither started nor
# enabled; no running service is touched.
# shellcheck shell=bash disable=SC2034

packages_missing() {
    local name
    for name in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed ||
            printf '%s ' "$name"
    done
}

# packages_root COMMAND...: runs as root, or fails with the command to type.
packages_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
        sudo "$@"
    else
        printf 'weir: this needs root once. Run:\n\n    %s %s\n\n' \
            'apt-get install -y --no-install-recommends' "${missing% }" >&2
        return 1
    fi
}

# Under a policy-rc.d of 101 maintainer scripts may start, restart or stop nothing. An existing
# policy stays.
packages_install_quietly() {
    # shellcheck disable=SC2016
    packages_root sh -c '
        policy=/usr/sbin/policy-rc.d made=
        if [ ! -e "$policy" ]; then
            printf "#!/bin/sh\nexit 101\n" >"$policy" && chmod 755 "$policy" && made=1
            trap "rm -f $policy" EXIT
            trap "exit 130" INT TERM HUP
        fi
        export DEBIAN_FRONTEND=noninteractive
        apt-get -q update || echo "weir: apt-get update had errors; trying with what is there" >&2
        apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 install "$@" || exit 1
        for service in nginx haproxy redis-server postgresql; do # only what came with this call
            case " $* " in *" $service "*) update-rc.d "$service" disable || true ;; esac
        done' packages "$@"
}

packages_need() {
    local missing log status=0
    command -v dpkg-query >/dev/null || {
        printf 'weir: not a Debian system: install the equivalents of: %s\n' "$*" >&2
        return 0
    }
    missing=$(packages_missing "$@")
    [ -n "$missing" ] || return 0
    printf 'weir: installing %s\n' "$missing" >&2
    log=$(mktemp)
    # shellcheck disable=SC2086
    packages_install_quietly $missing >"$log" 2>&1 || status=$?
    if [ "$status" -ne 0 ]; then
        tail -n 25 "$log" >&2
        printf 'weir: could not install: %s\n' "$missing" >&2
    fi
    rm -f "$log"
    return "$status"
}

# What the build itself needs. BoringSSL is C++; its result needs no C++ library.
packages_build=(gcc g++ libc6-dev make cmake ninja-build pkg-config xz-utils util-linux
    debian-archive-keyring libconfig-dev libc-ares-dev libpcre2-dev libxxhash-dev
    zlib1g-dev libbrotli-dev)

packages_test=(libcmocka-dev libnghttp2-dev clang llvm libclang-rt-14-dev python3 python3-pytest
    python3-grpcio python3-h2 python3-httpx python3-hypothesis python3-websockets
    python3-cryptography bind9-dnsutils nginx libnginx-mod-stream haproxy redis-server postgresql
    wrk nghttp2-client curl iproute2 openssl libssl-dev procps)
# With it the tests of tests/ run side by side; without it they take three times as long.
packages_test_faster=(python3-pytest-xdist)
command -v node >/dev/null || packages_test+=(nodejs)
# The browser of tests/e2e/test_h2_browser.py is 98 MB to fetch and 306 MB of disk: it is tested
# with where it is there, or asked for by WEIR_BROWSER=1 (step slow of test.sh does).
[ -z "${WEIR_BROWSER:-}" ] || packages_test+=(chromium-headless-shell)
# The scanners of tests/e2e/test_tls_scanners.py: asked for by WEIR_SCANNERS=1 (likewise).
[ -z "${WEIR_SCANNERS:-}" ] || packages_test+=(testssl.sh sslscan)
