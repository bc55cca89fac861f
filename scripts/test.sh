#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what is missing, builds everything and runs all tests. See --help.

unset CDPATH
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd -P)
# shellcheck source=scripts/common.sh
source "$root/scripts/common.sh"

usage() {
    cat << 'TEXT'
usage: scripts/test.sh [options]

Installs what is missing (with apt-get, as root or through sudo), builds the library's tests,
examples and benchmarks in build/test, and runs all tests. The last line is "N passed, N failed".

  --quick          only the tests of the rooms: no guards, no sanitizers, no benchmarks
  --filter REGEX   only the tests whose name matches
  --jobs N         so many compilations and tests at once (default: one for each CPU)
  --no-install     never install anything
  --help           this text
TEXT
}

quick=no
filter=
while [[ $# -gt 0 ]]; do
    case $1 in
        --quick) quick=yes ;;
        --filter) filter=${2:?--filter needs a regular expression}; shift ;;
        --jobs) jobs=${2:?--jobs needs a number}; shift ;;
        --no-install) may_install=no ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; die "unknown option $1" ;;
    esac
    shift
done

install_required g++ cmake ninja-build catch2 libeigen3-dev libxsimd-dev libbenchmark-dev \
    nlohmann-json3-dev libcli11-dev zlib1g-dev binutils
[[ $quick == yes ]] || install_optional clang libtbb-dev qemu-user g++-aarch64-linux-gnu # further compilers and CPUs
install_optional libflatbuffers-dev                # models of TensorFlow Lite
install_optional libzip-dev                        # NumPy's archives
install_optional libprotozero-dev libonnx-testdata # ONNX's own tests

build=$root/build/test
log=$build/test.log
options=(-DNOTCH_TEST_GUARDS=ON "-DNOTCH_TEST_VARIANTS=O0;sanitize;native;evex;amx" -DNOTCH_BUILD_BENCHMARKS=ON)
[[ $quick == no ]] || options=(-DNOTCH_TEST_GUARDS=OFF -DNOTCH_TEST_VARIANTS= -DNOTCH_BUILD_BENCHMARKS=OFF)
if ! configure "$build" "${options[@]}"; then
    say "CMake failed"
    echo "0 passed, 1 failed"
    exit 1
fi

say "building"
built=yes
cmake --build "$build" --parallel "$jobs" -- -k 0 || built=no # what did not build fails as a test

say "testing"
ctest --test-dir "$build" --parallel "$jobs" --output-on-failure --no-tests=error ${filter:+-R "$filter"} < /dev/null 2>&1 |
    tee "$log" || true

# ctest's own count, the last one: a guard that fails may show that of a ctest inside. A test that says it
# cannot run here counts as neither.
read -r failed total < <(sed -n 's/.* tests passed, \([0-9]*\) tests failed out of \([0-9]*\)$/\1 \2/p' "$log" |
    tail -n 1) || true
: "${failed:=1}" "${total:=1}"
skipped=$(grep -c '\*\*\*Skipped' "$log") || true
if [[ $built == no && $failed -eq 0 ]]; then
    say "the build failed"
    failed=1 total=$((total + 1))
fi
notes=$(sed -n 's/^note: /    /p' "$build/Testing/Temporary/LastTest.log" 2> /dev/null | sort -u || true)
if [[ -n $notes ]]; then
    say "notes"
    printf '%s\n' "$notes"
fi
printf '%d passed, %d failed\n' $((total - failed - skipped)) "$failed"
[[ $failed -eq 0 ]]
