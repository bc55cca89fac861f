#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# compile_time.sh <compiler>: how long a file takes that includes <notch/kernels/gemm.hpp> and
# nothing else (the best of three; the budget is about one second), and one that calls it. Printed,
# not enforced, because it depends on the machine.
set -eu
cxx=$1
name=$("$cxx" --version | head -n 1)
echo '#include <notch/kernels/gemm.hpp>' > alone.cpp
cp "$NOTCH_ROOT/tests/package/main.cpp" calls.cpp

best() { # milliseconds of compiling <file> with <flags>, the best of <n> times
    least=
    count=$3
    while [ "$count" -gt 0 ]; do
        begin=$(date +%s%N)
        "$cxx" -std=c++20 $2 "-I$NOTCH_ROOT/include" -c "$1" -o unit.o
        taken=$((($(date +%s%N) - begin) / 1000000))
        if [ -z "$least" ] || [ "$taken" -lt "$least" ]; then least=$taken; fi
        count=$((count - 1))
    done
    echo "$least ms"
}
echo "note: compile time of <notch/kernels/gemm.hpp> alone: $(best alone.cpp -O2 3), budget about 1000 ms ($name)"
echo "note: compile time of a file that calls gemm: $(best calls.cpp -O2 1) at -O2, $(best calls.cpp -O3 1) at -O3 ($name)"
echo "note: the same with NOTCH_SEPARATE_KERNELS: $(best calls.cpp "-O2 -DNOTCH_SEPARATE_KERNELS" 1) at -O2 ($name)"
