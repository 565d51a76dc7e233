# Shell functions shared by the dependency scripts of this directory (boringssl.sh, liburing.sh,
# aws-lc.sh). Does: a private apt state, fetch and verify of pinned files, a cache outside the tree
# with a lock and an atomic publish. Does not: touch the user's apt sources, need root, name any
# archive host (the address comes from `apt-get indextargets`). Called by
# packaging/cmake/deps.cmake at configure time, or by hand. A script prints the prefix directory
# ({include,lib}) as its only line on stdout; all else goes to stderr.
# shellcheck shell=bash disable=SC2016,SC2034,SC2154
set -euo pipefail
export LC_ALL=C
unset DESTDIR # an install of weir itself must not move the dependencies

deps_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache_dir=${WEIR_CACHE:-${XDG_CACHE_HOME:-${HOME:-/var/tmp}/.cache}}/weir/deps
jobs=${WEIR_JOBS:-$(nproc)}
CC=${CC:-cc}
CXX=${CXX:-c++}

note() { printf 'deps: %s\n' "$*" >&2; }

die() {
    printf 'deps: error: %s\n' "$*" >&2
    exit 1
}

# dep_rows NAME: the rows of sources.table for NAME as "package|version|suite|file|sha256" lines.
dep_rows() {
    awk -F'|' -v name="$1" '
        /^#/ || NF < 6 { next }
        { for (i = 1; i <= NF; i++) gsub(/^ +| +$/, "", $i) }
        $1 == name { print $2 "|" $3 "|" $4 "|" $5 "|" $6 }' "$deps_dir/sources.table"
}

# compiler_version: clang knows no -dumpfullversion.
compiler_version() {
    "$CC" -dumpfullversion 2>/dev/null || "$CC" -dumpversion
}

# dep_key FLAGS FILE...: 12 hex digits that change when the flags, the compiler or the recipe do.
# Comments are no part of it, nor is how a file is fetched: the pinned sha256 already says what was
# built.
dep_key() {
    local flags=$1
    shift
    { printf '%s\n' "$flags"; "$CC" -dumpmachine; compiler_version; sed "/^ *#/d" "$@"; } |
        sha256sum | cut -c1-12
}

# archive_address: the base address of this machine's Debian archive.
archive_address() {
    local codename address
    address=$(apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' 2>/dev/null |
        awk -F'|' '$1 == "Debian" && $2 == "Debian" && $3 !~ /^cdrom:/ { print $3; exit }')
    if [ -z "$address" ]; then # no release information before the first `apt-get update`
        codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
        address=$(apt-get indextargets --no-release-info \
            --format '$(RELEASE)|$(REPO_URI)' 2>/dev/null |
            awk -F'|' -v c="$codename" '$1 == c && $2 !~ /^cdrom:/ { print $2; exit }')
    fi
    [ -n "$address" ] || die "this machine has no Debian archive in its apt sources;" \
        "give the libraries yourself: -DWEIR_BORINGSSL_DIR=DIR -DWEIR_LIBURING_DIR=DIR"
    printf '%s' "$address"
}

archive_keyring() {
    local ring
    for ring in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
        [ -r "$ring" ] && printf '%s' "$ring" && return 0
    done
    die "no Debian archive keyring: install the package debian-archive-keyring"
}

# apt_private STATE COMMAND...: apt-get with lists, cache and sources of its own. An index past its
# date (a frozen mirror) will do: what it leads to must still have the pinned sha256.
apt_private() {
    local state=$1
    shift
    apt-get -q -o Dir::Etc::SourceList="$state/source.sources" \
        -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists="$state/lists" \
        -o Dir::Cache="$state/cache" -o APT::Sandbox::User="$(id -un)" \
        -o APT::Update::Error-Mode=any -o Acquire::Check-Valid-Until=false \
        -o Acquire::AllowInsecureRepositories=false \
        -o Acquire::Retries=2 -o Acquire::http::Timeout=60 "$@" >&2
}

# apt_state STATE SUITE: makes a private state for one suite's sources and reads its signed index.
apt_state() {
    local state=$1 suite=$2 address ring
    address=$(archive_address)
    ring=$(archive_keyring)
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    printf 'Types: deb-src\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' \
        "$address" "$suite" "$ring" >"$state/source.sources"
    apt_private "$state" update
}

# fetch_file PACKAGE VERSION SUITE FILE SHA256 DIR: leaves the verified file as DIR/FILE. Only the
# upstream tarball is asked for: some .dsc and debian.tar files are missing from mirrors.
fetch_file() {
    local package=$1 version=$2 suite=$3 file=$4 sum=$5 dir=$6
    local state=$dir/apt got
    note "fetching $package $version from $suite"
    mkdir -p "$dir/dl"
    apt_state "$state" "$suite" || return 1
    (cd "$dir/dl" && apt_private "$state" source --tar-only --download-only "$package=$version") ||
        return 1
    [ -f "$dir/dl/$file" ] || { note "$package $version: no file $file came"; return 1; }
    got=$(sha256sum "$dir/dl/$file" | cut -d' ' -f1)
    if [ "$got" != "$sum" ]; then
        note "$file: sha256 is $got, pinned is $sum; not used"
        return 1
    fi
    mv "$dir/dl/$file" "$dir/$file"
}

# dep_find NAME KEY: the prefix of the first row that is already built; 1 if there is none.
dep_find() {
    local name=$1 key=$2 version
    while IFS='|' read -r _ version _; do
        if [ -f "$cache_dir/$name-$version-$key/weir-dep" ]; then
            printf '%s\n' "$cache_dir/$name-$version-$key"
            return 0
        fi
    done < <(dep_rows "$name")
    return 1
}

# dep_try NAME KEY ROW: fetches and builds one row with the script's build_dep TARBALL WORK PREFIX,
# then publishes the prefix by one rename. Runs in a subshell of its own, so that a failure only
# ends this row.
dep_try() (
    set -e
    local name=$1 key=$2 package version suite file sum work
    IFS='|' read -r package version suite file sum <<<"$3"
    work=$(mktemp -d "$cache_dir/.work-$name-XXXXXX")
    trap 'rm -rf "$work"' EXIT
    fetch_file "$package" "$version" "$suite" "$file" "$sum" "$work"
    note "building $name $version (log: $cache_dir/$name.log)"
    mkdir -p "$work/src" "$work/prefix"
    build_dep "$work/$file" "$work" "$work/prefix" >"$cache_dir/$name.log" 2>&1 || {
        tail -n 30 "$cache_dir/$name.log" >&2
        exit 1
    }
    printf 'name=%s\nversion=%s\nsha256=%s\nflags=%s\n' \
        "$name" "$version" "$sum" "$dep_flags" >"$work/prefix/weir-dep"
    rm -rf "$cache_dir/$name-$version-$key"
    mv -T "$work/prefix" "$cache_dir/$name-$version-$key"
)

# dep_main NAME FILE...: prints the prefix of NAME, building it first if needed. FILEs are the
# recipe. WEIR_DEPS_FLAGS, behind the recipe's own flags, makes another build of it.
dep_main() {
    local name=$1 key row
    shift
    dep_flags+=${WEIR_DEPS_FLAGS:+ $WEIR_DEPS_FLAGS}
    key=$(dep_key "$dep_flags" "$@")
    dep_find "$name" "$key" && return 0
    command -v flock >/dev/null || die "flock is missing: install util-linux"
    mkdir -p "$cache_dir" || die "cannot write the cache $cache_dir: set WEIR_CACHE"
    exec 9>"$cache_dir/.lock-$name"
    flock 9
    dep_find "$name" "$key" && return 0 # another build made it while we waited
    while read -r row; do
        # An errexit subshell loses -e inside `if`; its status is taken by hand.
        set +e
        (exec 9>&-; dep_try "$name" "$key" "$row") </dev/null
        local status=$?
        set -e
        [ "$status" -eq 0 ] && dep_find "$name" "$key" && return 0
        note "row failed: $row"
    done < <(dep_rows "$name")
    die "no version of $name in sources.table could be fetched and built;" \
        "give one yourself: -DWEIR_BORINGSSL_DIR=DIR or -DWEIR_LIBURING_DIR=DIR"
}
