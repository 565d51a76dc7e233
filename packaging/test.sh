#!/bin/bash
# Installs the test needs, builds and runs every test. The last line is `N passed, N failed`; the
# exit status is 0 only when something passed and nothing failed. A build or runner that breaks
# counts as one failure.
#   packaging/test.sh                 everything (25 to 30 minutes on 2 cores)
#   packaging/test.sh dev e2e         only these steps: dev bench asan fuzz tsan e2e
#                                     conformance slow
# Logs and JUnit files: build/test/. WEIR_FUZZ_SECONDS (default 5) is the fuzz smoke per target,
# WEIR_FUZZ_SEED (default 1) where it starts: what broke one run breaks the next; 0 is random.
# WEIR_TEST_JOBS (default twice the cores, at most 4): so many processes share the files of e2e and
# conformance; 1, or no python3-pytest-xdist, runs one test after the other.
# Step slow is before a release: 1 GiB bodies, soaks, attacks for 10 s each, ... (45 minutes). It
# wants Chromium (98 MB) and scanners of TLS: WEIR_BROWSER= and WEIR_SCANNERS= leave them out.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1
case " $* " in *" slow "*) : "${WEIR_BROWSER=1}" "${WEIR_SCANNERS=1}" ;; esac
# shellcheck source=packaging/packages.sh
. packaging/packages.sh
export LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 WEIR_SOURCE_DIR=$root

out=$root/build/test
passed=0 failed=0 skipped=0
failures=() options=()
mkdir -p "$out"

say() { printf '\n== %s (%s s)\n' "$*" "$SECONDS"; }

add_failure() {
    failed=$((failed + 1))
    failures+=("$1")
    printf 'FAILED: %s\n' "$1"
}

# add_report NAME STATUS JUNIT: adds the counts of a JUnit file. A runner that failed without
# saying which test, or that wrote no readable file, is one failure.
add_report() {
    local name=$1 status=$2 file=$3 p f s names line
    if ! line=$(/usr/bin/python3 packaging/junit_count.py "$file" 2>&1); then
        add_failure "$name: the runner left no report (exit $status)"
        return
    fi
    read -r p f s <<<"${line%%$'\n'*}"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    names=${line#*$'\n'}
    [ "$f" -eq 0 ] || while read -r line; do failures+=("$name: $line"); done <<<"$names"
    [ "$status" -eq 0 ] || [ "$f" -gt 0 ] || add_failure "$name: exit $status, no test failed"
    printf '%s: %s passed, %s failed, %s skipped\n' "$name" "$p" "$f" "$s"
}

finish() {
    local name
    trap - EXIT
    say "summary"
    [ $((passed + failed)) -gt 0 ] || add_failure "no test was run"
    for name in "${failures[@]}"; do printf 'FAILED: %s\n' "$name"; done
    [ "$skipped" -eq 0 ] || printf '%s skipped\n' "$skipped"
    printf '%s passed, %s failed\n' "$passed" "$failed"
    [ "$failed" -eq 0 ] && exit 0
    exit 1
}
trap finish EXIT
trap 'add_failure "interrupted"; exit 1' INT TERM HUP

# build PRESET [TARGET...]: configures (with what the caller has in options) and builds; the log is
# shown only when it breaks.
build() {
    local preset=$1
    shift
    local log=$out/build-$preset${1:+-${1%%/*}}.log
    if ! cmake --preset "$preset" "${options[@]}" --log-level=WARNING >"$log" 2>&1 ||
        ! cmake --build --preset "$preset" ${1:+--target "$@"} >>"$log" 2>&1; then
        grep -nE 'error|FAILED|warning' "$log" | head -n 40
        tail -n 20 "$log"
        add_failure "build $preset${1:+ $1} (log: $log)"
        return 1
    fi
}

# run_ctest PRESET [ctest arguments]
run_ctest() {
    local preset=$1 file=$out/ctest-$1.xml log=$out/ctest-$1.log status=0
    shift
    rm -f "$file"
    ctest --preset "$preset" -j "$(nproc)" --output-on-failure --output-junit "$file" "$@" \
        >"$log" 2>&1 || status=$?
    [ "$status" -eq 0 ] ||
        grep -vE '^ *(Start +[0-9]+:|[0-9]+/[0-9]+ Test .* Passed)' "$log" | head -n 400
    add_report "ctest $preset" "$status" "$file"
}

# run_pytest SUITE BINARY: most tests wait most of the time, so several processes share the files;
# what is marked serial runs alone after them. A suite without test files yet is nothing to run.
run_pytest() {
    local suite=$1 binary=$2 jobs
    if ! find "tests/$suite" -name 'test_*.py' 2>/dev/null | grep -q .; then
        printf 'tests/%s: no tests\n' "$suite"
        return
    fi
    jobs=$(test_jobs)
    if [ "$jobs" -le 1 ]; then
        pytest_pass "pytest $suite" "$binary" "not slow"
        return
    fi
    pytest_pass "pytest $suite" "$binary" "not slow and not serial" -n "$jobs" --dist loadfile
    ! grep -rqE 'mark\.serial' --include='test_*.py' "tests/$suite" ||
        pytest_pass "pytest $suite serial" "$binary" "not slow and serial"
}

# test_jobs: how many processes run tests.
test_jobs() {
    local jobs=$(($(nproc) * 2))
    [ "$jobs" -le 4 ] || jobs=4
    jobs=${WEIR_TEST_JOBS:-$jobs}
    if [ "$jobs" -gt 1 ] && ! /usr/bin/python3 -c 'import xdist' 2>/dev/null; then
        printf 'no python3-pytest-xdist here: one test after the other\n' >&2
        jobs=1
    fi
    printf '%s\n' "$jobs"
}

# pytest_pass "pytest SUITE [WHAT]" BINARY MARKS [pytest arguments]: one run of pytest, counted;
# a hang ends after what the caller has in limit.
pytest_pass() {
    local name=$1 binary=$2 marks=$3 file=$out/${1// /-}.xml status=0 words
    shift 3
    read -ra words <<<"$name"
    rm -f "$file"
    WEIR_BIN=$binary timeout -k 30 "${limit:-2400}" /usr/bin/python3 -m pytest -q -ra \
        -p no:cacheprovider --tb=short --durations=10 --junitxml "$file" -m "$marks" "$@" \
        "tests/${words[1]}" || status=$?
    add_report "$name" "$status" "$file"
}

step_dev() { build dev && run_ctest dev; }

# The bench programs are built, not run: against the libraries of step dev, whose `all` they stay
# out of, so this takes seconds.
step_bench() {
    local options=(-DWEIR_BENCH=ON)
    build dev bench/all || return
    passed=$((passed + 1))
    printf 'bench: %s programs built\n' "$(find build/dev/bench -name 'bench-*' -type f | wc -l)"
}

step_asan() { build asan && run_ctest asan -L 'unit|sim|fuzz'; }
step_tsan() { build tsan && run_ctest tsan -L 'unit|sim'; }

# A short libFuzzer run per target, on a copy of its corpus. What it finds lies in build/test/fuzz.
step_fuzz() {
    local target name log extra seconds=${WEIR_FUZZ_SECONDS:-5}
    build fuzz || return
    mkdir -p "$out/fuzz"
    for target in fuzz/fuzz_*.c; do
        [ -e "$target" ] || continue
        name=${target#fuzz/fuzz_} name=${name%.c} extra=()
        rm -rf "$out/fuzz/corpus-$name" && mkdir -p "$out/fuzz/corpus-$name"
        [ -f "fuzz/dict/$name.dict" ] && extra+=("-dict=fuzz/dict/$name.dict")
        extra+=("$out/fuzz/corpus-$name") # the first directory receives what is new
        [ -d "fuzz/corpus/$name" ] && extra+=("fuzz/corpus/$name")
        [ -d "fuzz/regress/$name" ] && extra+=("fuzz/regress/$name")
        log=$out/fuzz/$name.log
        if "build/fuzz/fuzz_$name" "-seed=${WEIR_FUZZ_SEED:-1}" "-max_total_time=$seconds" \
            -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
            "-artifact_prefix=$out/fuzz/$name-" "${extra[@]}" >"$log" 2>&1; then
            passed=$((passed + 1))
            printf 'fuzz %s: %s runs\n' "$name" "$(awk '/number_of_exec/ { print $2 }' "$log")"
        else
            tail -n 40 "$log"
            add_failure "fuzz $name (inputs: $out/fuzz/$name-*)"
        fi
    done
}

# End to end against what ships; conformance, whose inputs are hostile, against the sanitized
# build.
step_e2e() { build release weir && run_pytest e2e "$root/build/release/weir"; }
step_conformance() { build asan weir && run_pytest conformance "$root/build/asan/weir"; }

step_slow() {
    local limit=7200
    build release weir && pytest_pass "pytest e2e slow" "$root/build/release/weir" slow
}

steps=("$@")
[ $# -gt 0 ] || steps=(dev bench asan fuzz e2e conformance)
for step in "${steps[@]}"; do
    declare -F "step_$step" >/dev/null || {
        add_failure "no step $step: dev bench asan fuzz tsan e2e conformance slow"
        exit 2
    }
done
say "packages"
needed=("${packages_build[@]}" "${packages_test[@]}")
packages_need "${needed[@]}" "${packages_test_faster[@]}" || packages_need "${needed[@]}" ||
    { add_failure "packages"; exit 1; }
for step in "${steps[@]}"; do
    say "$step"
    "step_$step"
done
