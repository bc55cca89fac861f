#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# native.sh <compiler>: what Eigen and the kernels are part of, built as the preset "native" does, without a warning.
set -eu
"$NOTCH_CMAKE" -S "$NOTCH_ROOT" -B build -G "$NOTCH_GENERATOR" "-DCMAKE_CXX_COMPILER=$1" -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_CXX_FLAGS=-march=native -DNOTCH_TEST_VARIANTS= -DNOTCH_TEST_GUARDS=OFF -DNOTCH_BUILD_TESTS=OFF \
    -DNOTCH_BUILD_BENCHMARKS=OFF -DNOTCH_BUILD_DOCS=OFF > log 2>&1 || { cat log; exit 1; }
"$NOTCH_CMAKE" --build build --parallel 2 --target example_06_train_and_freeze > log 2>&1 || { tail -n 50 log; exit 1; }
build/examples/example_06_train_and_freeze > log
