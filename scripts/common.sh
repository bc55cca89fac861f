# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2154
#
# What the scripts beside it share. Sourced by bash, with $root set.

set -euo pipefail

say() { printf '==> %s\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

jobs=$(nproc 2> /dev/null || sysctl -n hw.ncpu 2> /dev/null || echo 2)
may_install=yes

has_command() {
    local name
    for name in "$@"; do
        if command -v "$name" > /dev/null 2>&1; then return 0; fi
    done
    return 1
}

# Whether a header lies where compilers and CMake look for it.
has_header() {
    local prefixes=${CMAKE_PREFIX_PATH:-} prefix
    for prefix in ${prefixes//:/ } /usr /usr/local /opt/homebrew; do
        if [[ -e $prefix/include/$1 || -e $prefix/include/eigen3/$1 ]]; then return 0; fi
    done
    return 1
}

# Whether a library lies where linkers look for it.
has_library() {
    local prefixes=${CMAKE_PREFIX_PATH:-} prefix file
    for prefix in ${prefixes//:/ } /usr /usr/local /opt/homebrew; do
        for file in "$prefix"/lib/"$1" "$prefix"/lib64/"$1" "$prefix"/lib/*-linux-*/"$1"; do
            if [[ -e $file ]]; then return 0; fi
        done
    done
    return 1
}

# Whether what a Debian package provides is there, from wherever it came.
is_present() {
    case $1 in
        g++) # CXX may have options, or a launcher before it
            local first
            read -r first _ <<< "${CXX:-g++}"
            has_command "$first"
            ;;
        cmake) has_command cmake ;;
        ninja-build) has_command ninja ;;
        binutils) has_command objdump ;;
        clang) has_command clang++ clang++-{14..22} ;;
        qemu-user) has_command qemu-x86_64 ;;
        g++-aarch64-linux-gnu) has_command aarch64-linux-gnu-g++ ;;
        catch2) has_header catch2/catch.hpp || has_header catch2/catch_all.hpp ;;
        libeigen3-dev) has_header Eigen/Core ;;
        libxsimd-dev) has_header xsimd/xsimd.hpp ;;
        libbenchmark-dev) has_header benchmark/benchmark.h ;;
        nlohmann-json3-dev) has_header nlohmann/json.hpp ;;
        libflatbuffers-dev) has_header flatbuffers/flatbuffers.h ;;
        libzip-dev) has_header zip.h ;;
        libcli11-dev) has_header CLI/CLI.hpp ;;
        libdnnl-dev) has_header dnnl.hpp ;;
        ocl-icd-opencl-dev) has_library libOpenCL.so ;;
        libxnnpack-dev) has_header xnnpack.h ;;
        libpthreadpool-dev) has_header pthreadpool.h ;;
        libcpuinfo-dev) has_header cpuinfo.h ;;
        libgemmlowp-dev) has_header gemmlowp/public/gemmlowp.h ;;
        libopenblas-dev) has_library libopenblas.so ;;
        python3-venv) python3 -c 'import ensurepip, venv' > /dev/null 2>&1 ;;
        zlib1g-dev) has_header zlib.h ;;
        zstd) has_command zstd ;;
        libprotozero-dev) has_header protozero/pbf_reader.hpp ;;
        libonnx-testdata) [[ -d /usr/share/libonnx-testdata/data/node ]] ;;
        libtbb-dev) has_header tbb/parallel_for.h ;;
        *) die "no probe for the package $1" ;;
    esac
}

# The packages among the arguments that are missing, one a line.
missing_of() {
    local package
    for package in "$@"; do
        is_present "$package" || printf '%s\n' "$package"
    done
}

# Runs apt-get as root; fails where that cannot be done.
apt_get() {
    local run=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Use-Pty=0 "$@")
    if [[ $EUID -eq 0 ]]; then
        "${run[@]}" < /dev/null
    elif [[ -t 0 ]]; then
        sudo "${run[@]}"
    else
        sudo -n "${run[@]}" < /dev/null
    fi
}
can_apt() {
    [[ $may_install == yes ]] && has_command apt-get && { [[ $EUID -eq 0 ]] || has_command sudo; }
}

how_to_get() {
    cat >&2 << TEXT
Missing: $*
(the names of Debian and Ubuntu). How to get them:
    Debian, Ubuntu   sudo apt-get install $*
    elsewhere        a C++20 compiler, CMake 3.20 or later, Ninja, and with your package manager
                     (dnf, pacman, brew, vcpkg, ...): Catch2, Eigen 3, xsimd 8 or later, Google
                     Benchmark, nlohmann_json 3, CLI11, zlib; set CMAKE_PREFIX_PATH if they lie in
                     a place of their own
TEXT
}

# install_required <package>...: installs what is missing, or says what that is and ends.
install_required() {
    local missing
    mapfile -t missing < <(missing_of "$@")
    [[ ${#missing[@]} -gt 0 ]] || return 0
    if can_apt; then
        say "installing ${missing[*]}"
        if apt_get update && apt_get install -y --no-upgrade --no-install-recommends "${missing[@]}"; then
            mapfile -t missing < <(missing_of "$@")
            [[ ${#missing[@]} -gt 0 ]] || return 0
        fi
    fi
    how_to_get "${missing[@]}"
    exit 1
}

# install_optional <package>...: the same, but goes on without.
install_optional() {
    local missing package
    mapfile -t missing < <(missing_of "$@")
    [[ ${#missing[@]} -gt 0 ]] || return 0
    if can_apt; then
        say "installing ${missing[*]}"
        apt_get update || true
        for package in "${missing[@]}"; do
            apt_get install -y --no-upgrade --no-install-recommends "$package" || true
        done
    fi
    mapfile -t missing < <(missing_of "$@")
    [[ ${#missing[@]} -eq 0 ]] || say "going on without ${missing[*]}"
}

# python_packages <module>... -- <package>...: sees to it that $python, of build/peers/venv, has these modules; if one is
# missing, gets the packages from PyPI.
python=$root/build/peers/venv/bin/python
python_packages() {
    local modules=()
    while [[ $1 != -- ]]; do
        modules+=("$1")
        shift
    done
    shift
    if "$python" -c 'import sys; from importlib.util import find_spec as f; sys.exit(None in map(f, sys.argv[1:]))' \
        "${modules[@]}" 2> /dev/null; then return 0; fi
    [[ $may_install == yes ]] || die "of the Python modules ${modules[*]} some are not in build/peers/venv"
    install_required python3-venv
    say "getting from PyPI: $*"
    python3 -m venv "$root/build/peers/venv"
    "$python" -m pip --disable-pip-version-check install -q "$@"
}

# What scripts/peers.py needs.
peer_modules=(numpy onnx onnxruntime sympy openvino nncf ai_edge_litert tensorflow tf_keras)
peer_packages=(numpy onnx onnxruntime sympy openvino nncf ai-edge-litert tensorflow tf-keras)
if [[ $(uname -sm) == "Linux x86_64" ]]; then peer_packages[7]=tensorflow-cpu; fi

# configure <directory> <option>...: configures a Release build there, with Ninja. A build that was
# configured for another place or with another generator is begun anew.
configure() {
    local directory=$1 cache=$1/CMakeCache.txt
    shift
    if [[ -e $cache ]] && ! { grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$cache" &&
        grep -qxF "CMAKE_GENERATOR:INTERNAL=Ninja" "$cache"; }; then
        rm -rf "$directory"
    fi
    say "configuring ${directory#"$root"/}"
    cmake -S "$root" -B "$directory" -G Ninja -DCMAKE_BUILD_TYPE=Release "$@"
}
