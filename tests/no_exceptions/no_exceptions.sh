#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# no_exceptions.sh <compiler>: every header compiles with -fno-exceptions -fno-rtti, the library works,
# and an error prints its message and aborts.
set -eu
(cd "$NOTCH_ROOT/include" && find notch -name '*.hpp') | sort | sed 's/.*/#include <&>/' > all.cpp
[ "$(wc -l < all.cpp)" -gt 40 ] || { echo "found only $(wc -l < all.cpp) headers"; exit 1; }
"$1" -std=c++20 -fno-exceptions -fno-rtti $NOTCH_WARNINGS "-I$NOTCH_ROOT/include" $NOTCH_ISYSTEM -fsyntax-only all.cpp
"$1" -std=c++20 -O1 -fno-exceptions -fno-rtti $NOTCH_WARNINGS "-I$NOTCH_ROOT/include" \
    "$NOTCH_ROOT/tests/no_exceptions/main.cpp" -o program
./program
expected='notch: gemm: the number of columns of x is 2, expected 3'
if (ulimit -c 0; ./program error) > output 2>&1; then
    echo "an error did not abort"
    exit 1
fi
grep -qF "$expected" output || { echo "expected \"$expected\", found:"; cat output; exit 1; }
