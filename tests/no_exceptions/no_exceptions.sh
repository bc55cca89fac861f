#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# no_exceptions.sh <compiler>: the library works with -fno-exceptions -fno-rtti, and an error prints
# its message and aborts.
set -eu
"$1" -std=c++20 -O1 -fno-exceptions -fno-rtti $NOTCH_WARNINGS "-I$NOTCH_ROOT/include" \
    "$NOTCH_ROOT/tests/no_exceptions/main.cpp" -o program
./program
expected='notch: gemm: the number of columns of x is 2, expected 3'
if (ulimit -c 0; ./program error) > output 2>&1; then
    echo "an error did not abort"
    exit 1
fi
grep -qF "$expected" output || { echo "expected \"$expected\", found:"; cat output; exit 1; }
