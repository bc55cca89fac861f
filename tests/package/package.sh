#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# package.sh <compiler>: projects that use notch by add_subdirectory, by find_package from a moved
# installation, and by an include path alone.
set -eu
cxx=$1
here=$NOTCH_ROOT/tests/package
say() { echo "--- $*"; }
configure() { # <directory> <options...>
    directory=$1
    shift
    "$NOTCH_CMAKE" -S "$here" -B "$directory" -G "$NOTCH_GENERATOR" "-DCMAKE_CXX_COMPILER=$cxx" \
        -DCMAKE_BUILD_TYPE=Release "$@" > "$directory.log" 2>&1
}
build_and_run() {
    "$NOTCH_CMAKE" --build "$1" > "$1.log" 2>&1 || { cat "$1.log"; exit 1; }
    "./$1/consumer"
}
rm -rf subdirectory found found_* notch prefix moved

say "add_subdirectory"
configure subdirectory "-DNOTCH_SOURCE=$NOTCH_ROOT" || { cat subdirectory.log; exit 1; }
build_and_run subdirectory

say "install and find_package"
"$NOTCH_CMAKE" -S "$NOTCH_ROOT" -B notch -G "$NOTCH_GENERATOR" "-DCMAKE_CXX_COMPILER=$cxx" \
    -DNOTCH_BUILD_TESTS=OFF -DNOTCH_BUILD_BENCHMARKS=OFF -DNOTCH_BUILD_EXAMPLES=OFF \
    "-DCMAKE_INSTALL_PREFIX=$PWD/prefix" > notch.log 2>&1 || { cat notch.log; exit 1; }
"$NOTCH_CMAKE" --install notch > notch.log 2>&1 || { cat notch.log; exit 1; }
mv prefix moved
if grep -rqF "$NOTCH_ROOT" moved; then
    echo "the installation refers to the source tree:"
    grep -rlF "$NOTCH_ROOT" moved
    exit 1
fi
version=$(sed -n 's/^#define NOTCH_VERSION_STRING "\(.*\)"/\1/p' "$NOTCH_ROOT/include/notch/core/config.hpp")
configure found "-DCMAKE_PREFIX_PATH=$PWD/moved" "-DNOTCH_VERSION=$version" "-DNOTCH_COMPONENTS=$(echo $NOTCH_PACKAGES | tr ' ' ';')" ||
    { cat found.log; exit 1; }
build_and_run found
case $(./found/consumer) in
    "notch $version "*) ;;
    *) echo "expected version $version"; exit 1 ;;
esac

say "another version and an unknown component are refused"
if configure found_version "-DCMAKE_PREFIX_PATH=$PWD/moved" -DNOTCH_VERSION=99.0; then exit 1; fi
if configure found_component "-DCMAKE_PREFIX_PATH=$PWD/moved" -DNOTCH_COMPONENTS=nonsense; then exit 1; fi
grep -q nonsense found_component.log || { cat found_component.log; exit 1; }

say "an include path and nothing else"
"$cxx" -std=c++20 "-I$NOTCH_ROOT/include" "$here/main.cpp" -o plain
./plain

# The tests of the rooms are programs that compile their kernels once; here is what goes wrong without.
say "separate kernels that are missing, or come too late"
if "$cxx" -std=c++20 -DNOTCH_SEPARATE_KERNELS "-I$NOTCH_ROOT/include" "$here/main.cpp" -o separate > separate.log 2>&1; then
    echo "a program without kernels links"
    exit 1
fi
grep -q gemm_tables separate.log || { cat separate.log; exit 1; }
printf '#define NOTCH_DEFINE_KERNELS\n#include <notch/kernels/gemm.hpp>\n' > family.cpp
"$cxx" -std=c++20 -O2 -DNOTCH_SEPARATE_KERNELS "-I$NOTCH_ROOT/include" "$here/main.cpp" family.cpp -o family
./family
printf '#include <notch/kernels/gemm.hpp>\n#include <notch/kernels/definitions.hpp>\n' > late.cpp
if "$cxx" -std=c++20 -DNOTCH_SEPARATE_KERNELS "-I$NOTCH_ROOT/include" -fsyntax-only late.cpp > late.log 2>&1; then
    echo "definitions.hpp behind another header compiles"
    exit 1
fi
grep -q 'before any other header of notch' late.log || { cat late.log; exit 1; }
