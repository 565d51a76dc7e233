#!/bin/bash
# From a fresh Debian to a running proxy: installs what is missing, builds release, starts weir.
#   packaging/run.sh             `weir demo`: a built-in origin behind the proxy
#   packaging/run.sh -c FILE     `weir run -c FILE`; FILE is relative to where you are
# The first run takes about two minutes on 2 cores (BoringSSL, once per machine), the next ones a
# second.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=packaging/packages.sh
. "$root/packaging/packages.sh"

packages_need "${packages_build[@]}"
build=$root/build/release
cmake -S "$root" --preset release >/dev/null # what goes wrong, and fetching, is told on stderr
[ -x "$build/weir" ] || printf 'weir: building %s/weir\n' "$build" >&2
cmake --build "$build" --target weir >"$build/run.log" || {
    cat "$build/run.log" >&2
    exit 1
}

if [ $# -eq 0 ]; then
    exec "$build/weir" demo
fi
exec "$build/weir" run "$@"
