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
handwritten digits, and where the data is given on CIFAR-10 with two more: ResNet-8 and a depthwise network that is
trained first. Three seeds; writes mean and deviation: out/ablation/results.json and report.html. Installs what is missing (with apt-get, as root or through sudo) and builds in build/ablation.
On the digits the whole takes about half an hour on two cores, on CIFAR-10 some hours. A run that was stopped goes on where it was: rows that are there are
not run again. --again begins anew, as after a change of the library.

  --quick        one seed, few methods: two minutes once it is built
  --seeds N      the seeds 1 to N (3; with --quick 1)
  --filter TEXT  only rows whose network/method/widths contain TEXT, e.g. lsq or mobile_net/gptq/W4A8; may be
                 repeated
  --network NAME only mobile_net, small_cnn, resnet8 or dsnet; may be repeated
  --cifar FILE   CIFAR-10 as a tar of {train,test}/<class>/*.jpg (or .tar.zst), for resnet8 and dsnet
  --resnet FILE  MLPerf Tiny's pretrainedResnet.tflite, for resnet8
  --jobs N       so many networks, and compilations, at once (default: one for each CPU)
  --out DIR      where the results go (default: out/ablation)
  --report       run nothing: show the results that there are
  --again        forget the results and the trained networks of earlier runs
  --no-install   never install anything
  --help         this text
TEXT
}

arguments=()
cifar=
out=$root/out/ablation
again=no
while [[ $# -gt 0 ]]; do
    case $1 in
        --quick | --report) arguments+=("$1") ;;
        --seeds) arguments+=(--seeds "${2:?--seeds needs a number}"); shift ;;
        --filter) arguments+=(--filter "${2:?--filter needs a text}"); shift ;;
        --network) arguments+=(--network "${2:?--network needs a name}"); shift ;;
        --cifar) cifar=${2:?--cifar needs a file}; shift ;;
        --resnet) arguments+=(--resnet "${2:?--resnet needs a file}"); shift ;;
        --jobs) jobs=${2:?--jobs needs a number}; shift ;;
        --out) out=${2:?--out needs a directory}; shift ;;
        --again) again=yes ;;
        --no-install) may_install=no ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; die "unknown option $1" ;;
    esac
    shift
done

[[ -z $cifar || -f $cifar ]] || { usage >&2; die "--cifar: there is no file $cifar"; }

install_required g++ cmake ninja-build libeigen3-dev libxsimd-dev nlohmann-json3-dev libcli11-dev zlib1g-dev \
    libflatbuffers-dev

build=$root/build/ablation
if [[ -n $cifar ]]; then
    images=$build/cifar10.safetensors
    arguments+=(--cifar "$images")
    if [[ ! -f $images || $cifar -nt $images ]]; then
        install_required python3-venv zstd
        python=$build/venv/bin/python
        if [[ ! -x $python ]]; then
            [[ $may_install == yes ]] || die "the Python packages are not in $build/venv"
            say "installing Python packages into build/ablation/venv"
            python3 -m venv "$build/venv"
            "$python" -m pip --disable-pip-version-check install -q numpy pillow
        fi
        say "reading the images"
        "$python" "$root/scripts/cifar10.py" --cifar "$cifar" --out "$images.new"
        mv "$images.new" "$images"
    fi
fi
configure "$build" -DNOTCH_BUILD_TESTS=OFF -DNOTCH_BUILD_BENCHMARKS=OFF -DNOTCH_BUILD_DOCS=OFF -DNOTCH_BUILD_EXAMPLES=ON
say "building"
cmake --build "$build" --parallel "$jobs" --target ablation

if [[ $again == yes ]]; then rm -f "$out"/results.json "$out"/*.fp32; fi
say "running"
exec "$build/examples/ablation/ablation" --out "$out" --threads "$jobs" ${arguments[@]+"${arguments[@]}"}
