#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what is missing, builds the demo and runs it. See --help.

unset CDPATH
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd -P)
# shellcheck source=scripts/common.sh
source "$root/scripts/common.sh"

usage() {
    cat << 'TEXT'
usage: scripts/demo.sh [options]

Trains two networks on real handwritten digits, quantizes them in every basic way, runs them in
INT8 on this CPU, and shows that the trained and the shipped network give the same codes. Installs
what is missing (with apt-get, as root or through sudo) and builds in build/demo. On two cores the whole, building
included, takes at most 4 minutes, --quick at most one.

  --quick        a shorter training; all test images on the best instruction set only
  --seed N       the seed of the random numbers; one seed, one result
  --out DIR      where results.json and report.html go (default: out/demo)
  --jobs N       so many compilations at once (default: one for each CPU)
  --no-install   never install anything
  --help         this text
TEXT
}

quick=()
seed=()
out=$root/out/demo
while [[ $# -gt 0 ]]; do
    case $1 in
        --quick) quick=(--quick) ;;
        --seed) seed=(--seed "${2:?--seed needs a number}"); shift ;;
        --out) out=${2:?--out needs a directory}; shift ;;
        --jobs) jobs=${2:?--jobs needs a number}; shift ;;
        --no-install) may_install=no ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; die "unknown option $1" ;;
    esac
    shift
done

[[ $jobs =~ ^[1-9][0-9]*$ ]] || die "--jobs is \"$jobs\", must be a number from 1 on"
[[ ${seed[1]:-0} =~ ^[0-9]+$ ]] || die "--seed is \"${seed[1]}\", must be a number from 0 on"
[[ $out != -* ]] || die "--out is \"$out\", must be a directory"

install_required g++ cmake ninja-build libeigen3-dev libxsimd-dev nlohmann-json3-dev libcli11-dev zlib1g-dev

build=$root/build/demo
configure "$build" -DNOTCH_BUILD_TESTS=OFF -DNOTCH_BUILD_BENCHMARKS=OFF -DNOTCH_BUILD_DOCS=OFF -DNOTCH_BUILD_EXAMPLES=ON
say "building"
cmake --build "$build" --parallel "$jobs" --target mnist_train mnist_run

# Two programs, so that the shipped network is loaded in a process that never saw the training.
mkdir -p "$out"
say "training and quantizing"
"$build/examples/mnist/mnist_train" --out "$out" ${quick[@]+"${quick[@]}"} ${seed[@]+"${seed[@]}"}
say "loading, checking and timing"
exec "$build/examples/mnist/mnist_run" --out "$out"
