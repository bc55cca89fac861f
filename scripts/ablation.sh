#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what is missing, builds the ablation and runs it. See --help.

unset CDPATH
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd -P)
# shellcheck source=scripts/common.sh
source "$root/scripts/common.sh"

usage() {
    cat << 'TEXT'
usage: scripts/ablation.sh [options]

Runs every quantization method with every number of bits that it has, on the demo's two networks and its
handwritten digits, with three seeds, and writes mean and deviation: out/ablation/results.json and
report.html. Installs what is missing (with apt-get, as root or through sudo) and builds in build/ablation.
The whole takes about half an hour on two cores. A run that was stopped goes on where it was: rows that are there are
not run again. --again begins anew, as after a change of the library.

  --quick        one seed, few methods: two minutes once it is built
  --seeds N      the seeds 1 to N (3; with --quick 1)
  --filter TEXT  only rows whose network/method/widths contain TEXT, e.g. lsq or mobile_net/gptq/W4A8; may be
                 repeated
  --jobs N       so many networks, and compilations, at once (default: one for each CPU)
  --out DIR      where the results go (default: out/ablation)
  --report       run nothing: show the results that there are
  --again        forget the results and the trained networks of earlier runs
  --no-install   never install anything
  --help         this text
TEXT
}

arguments=()
out=$root/out/ablation
again=no
while [[ $# -gt 0 ]]; do
    case $1 in
        --quick | --report) arguments+=("$1") ;;
        --seeds) arguments+=(--seeds "${2:?--seeds needs a number}"); shift ;;
        --filter) arguments+=(--filter "${2:?--filter needs a text}"); shift ;;
        --jobs) jobs=${2:?--jobs needs a number}; shift ;;
        --out) out=${2:?--out needs a directory}; shift ;;
        --again) again=yes ;;
        --no-install) may_install=no ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; die "unknown option $1" ;;
    esac
    shift
done

install_required g++ cmake ninja-build libeigen3-dev libxsimd-dev nlohmann-json3-dev libcli11-dev zlib1g-dev

build=$root/build/ablation
configure "$build" -DNOTCH_BUILD_TESTS=OFF -DNOTCH_BUILD_BENCHMARKS=OFF -DNOTCH_BUILD_DOCS=OFF -DNOTCH_BUILD_EXAMPLES=ON
say "building"
cmake --build "$build" --parallel "$jobs" --target ablation

if [[ $again == yes ]]; then rm -f "$out"/results.json "$out"/*.fp32; fi
say "running"
exec "$build/examples/ablation/ablation" --out "$out" --threads "$jobs" ${arguments[@]+"${arguments[@]}"}
