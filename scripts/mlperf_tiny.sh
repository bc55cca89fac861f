#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Compares notch with LiteRT on the models of MLPerf Tiny. See --help.

unset CDPATH
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd -P)
# shellcheck source=scripts/common.sh
source "$root/scripts/common.sh"

usage() {
    cat << 'TEXT'
usage: scripts/mlperf_tiny.sh --data DIR [options]

Runs the int8 reference models of MLPerf Tiny (DIR: the .tflite files of github.com/mlcommons/tiny, with
kws01.tar.zst or the folder kws01 for keyword spotting), and models of one operator each, on LiteRT's reference kernels
and on notch, compares every code of every tensor, and prints the top-1 of keyword spotting. Installs what is missing
(with apt-get, as root or through sudo; LiteRT from PyPI into build/mlperf_tiny).

  --time         instead the latency of each model, against LiteRT's fastest kernels (XNNPACK), one thread, in turns
  --rounds N     so many turns (default: 5)
  --inputs N     random inputs of a model (default: 50)
  --jobs N       so many compilations at once (default: one for each CPU)
  --no-install   never install anything
  --help         this text
TEXT
}

data=
rounds=5
inputs=50
timing=no
while [[ $# -gt 0 ]]; do
    case $1 in
        --data) data=${2:?--data needs a directory}; shift ;;
        --time) timing=yes ;;
        --rounds) rounds=${2:?--rounds needs a number}; shift ;;
        --inputs) inputs=${2:?--inputs needs a number}; shift ;;
        --jobs) jobs=${2:?--jobs needs a number}; shift ;;
        --no-install) may_install=no ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; die "unknown option $1" ;;
    esac
    shift
done
[[ -d $data ]] || { usage >&2; die "--data DIR is needed: the models do not come with notch"; }

install_required g++ cmake ninja-build libflatbuffers-dev python3-venv
build=$root/build/mlperf_tiny
python=$build/venv/bin/python
mkdir -p "$build"
if ! "$python" -c 'import numpy, ai_edge_litert' 2> /dev/null; then
    [[ $may_install == yes ]] || die "LiteRT is not in $build/venv"
    say "getting LiteRT from PyPI"
    python3 -m venv "$build/venv"
    "$python" -m pip --disable-pip-version-check install -q numpy ai-edge-litert
fi
kws=$data/kws01
if [[ ! -d $kws && -e $data/kws01.tar.zst ]]; then
    install_required zstd
    zstd -dc "$data/kws01.tar.zst" | tar -xf - -C "$build"
    kws=$build/kws01
fi

configure "$build/build" -DNOTCH_BUILD_TESTS=OFF -DNOTCH_BUILD_BENCHMARKS=OFF -DNOTCH_BUILD_DOCS=OFF \
    -DNOTCH_BUILD_EXAMPLES=ON
say "building"
cmake --build "$build/build" --parallel "$jobs" --target mlperf_tiny
program=$build/build/examples/mlperf_tiny/mlperf_tiny
judge=("$python" "$root/scripts/litert_reference.py")

if [[ $timing == yes ]]; then
    for ((round = 1; round <= rounds; ++round)); do
        for model in kws_ref_model pretrainedResnet_quant pretrainedResnet_large_int8 vww_96_int8 ad01_int8 str_ww_ref_model; do
            [[ -e $data/$model.tflite ]] || continue
            "$program" --data "$data" --time "$model"
            "${judge[@]}" --data "$data" --time "$model"
        done
    done
    exit
fi
reference=$build/reference
rm -rf "$reference"
labelled=()
[[ ! -d $kws ]] || labelled=(--kws "$kws")
say "running LiteRT's reference kernels"
"${judge[@]}" --operators "$build/operators" --out "$reference" --inputs "$inputs"
"${judge[@]}" --data "$data" --out "$reference" --inputs "$inputs" ${labelled[@]+"${labelled[@]}"}
say "running notch"
"$program" --data "$build/operators" --reference "$reference"
"$program" --data "$data" --reference "$reference" ${labelled[@]+"${labelled[@]}"}
