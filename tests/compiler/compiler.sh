#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# compiler.sh <compiler>: all rooms' tests with another compiler, in a build of their own.
set -eu
"$NOTCH_CMAKE" -S "$NOTCH_ROOT" -B build -G "$NOTCH_GENERATOR" "-DCMAKE_CXX_COMPILER=$1" \
    -DCMAKE_BUILD_TYPE=Release "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG" -DNOTCH_TEST_GUARDS=OFF -DNOTCH_TEST_VARIANTS= \
    -DNOTCH_BUILD_BENCHMARKS=OFF -DNOTCH_BUILD_EXAMPLES=OFF -DNOTCH_BUILD_DOCS=OFF > log 2>&1 || { cat log; exit 1; }
"$NOTCH_CMAKE" --build build --parallel 2 > log 2>&1 || { tail -n 50 log; exit 1; }
"${NOTCH_CMAKE%cmake}ctest" --test-dir build --parallel 2 --output-on-failure > log 2>&1 || { tail -n 100 log; exit 1; }
tail -n 3 log
echo "note: $(basename "$1"): $(sed -n 's/.* tests failed out of \([0-9]*\)/\1/p' log) test cases of the rooms passed"
