#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Shows that order.sh can fail: in small trees with the real rooms.txt a correct header passes, and
# each planted violation is found and named.
set -eu
guard=$NOTCH_ROOT/tests/headers/order.sh
rooms=$NOTCH_ROOT/tests/headers/rooms.txt
planted=0
failed=0

plant() { # <header> <lines>: a tree with a correct header and this one
    rm -rf tree
    mkdir -p tree/tests/headers "$(dirname "tree/include/notch/$1")" tree/include/notch/core
    cp "$rooms" tree/tests/headers/rooms.txt
    head='// SPDX-License-Identifier: Apache-2.0\n#pragma once\n'
    printf "$head" > tree/include/notch/core/good.hpp
    printf "$head$2\n" > "tree/include/notch/$1"
}
check() { NOTCH_ROOT=$PWD/tree sh "$guard" > said 2>&1; }
accept() { # <header> <lines>
    plant "$1" "$2"
    check || { echo "refused, but is correct: $1: $2"; cat said; failed=1; }
}
refuse() { # <header> <lines> <text>
    plant "$1" "$2"
    planted=$((planted + 1))
    if check; then
        echo "not found: $1: $2"
        failed=1
    elif ! grep -qF -- "$3" said; then
        echo "expected to read \"$3\" about $1: $2"
        cat said
        failed=1
    fi
}

accept kernels/a.hpp '#include <vector>\n#include <notch/core/good.hpp>\n#include <notch/ref/gemm.hpp>'
accept layers/a.hpp '#include <Eigen/Core>\n#include <notch/qat/fake_quant.hpp>'
accept simd/elementwise.hpp '#include <xsimd/xsimd.hpp>'
accept io/a.hpp '#include <nlohmann/json.hpp>\n#include <notch/layers/frozen.hpp>'
accept kernels/arch/avx2.hpp 'NOTCH_TARGET_BEGIN_AVX2\n#include <notch/kernels/arch/avx256.inl>\nNOTCH_TARGET_END'
accept kernels/arch/for_each.inl 'NOTCH_TARGET_BEGIN_AVX2\n#include NOTCH_BODY\nNOTCH_TARGET_END'
accept kernels/arch/for_each.inl 'NOTCH_TARGET_BEGIN_AMX\n#include NOTCH_BODY_AMX\nNOTCH_TARGET_END'
accept kernels/a.hpp '#include <notch/kernels/arch/for_each.inl>'
accept core/a.hpp 'NOTCH_NAMESPACE_BEGIN\nNOTCH_NAMESPACE_END\nNOTCH_KEYED_BEGIN\nnamespace detail {}\nNOTCH_KEYED_END'
accept kernels/body/a.inl '#include <notch/kernels/arch/a_ops.inl>'

refuse core/a.hpp '#include <notch/kernels/gemm.hpp>' 'core may not include the later room kernels'
refuse scheme/a.hpp '  #  include <notch/ref/gemm.hpp>' 'scheme may not include the later room ref'
refuse kernels/a.hpp '#include <notch/io/dtype.hpp>' 'io is a leaf'
refuse kernels/a.hpp '#include <Eigen/Core>' 'may not use eigen'
refuse kernels/body/a.inl '#include <cstdint>' 'a part of a region includes parts of regions only'
refuse kernels/a.hpp '#include <notch/kernels/body/gemm.inl>' 'only kernels/arch/for_each.inl includes kernels/body'
refuse kernels/a.hpp '#include <notch/kernels/arch/avx2.hpp>' 'only kernels/table.hpp includes kernels/arch'
refuse kernels/a.hpp '#include NOTCH_BODY' 'write #include <...>'
refuse layers/a.hpp '#include <notch/kernels/arch/for_each.inl>' 'only a header of kernels includes for_each.inl'
refuse kernels/arch/avx256.inl '#include <notch/core/types.hpp>' 'a part of a region includes parts of regions only'
refuse kernels/body/a.inl '#include <notch/kernels/arch/for_each.inl>' 'a part of a region includes parts of regions only'
refuse kernels/arch/avx2.hpp 'NOTCH_TARGET_BEGIN_AVX2\n#include <cstring>\nNOTCH_TARGET_END' 'inside a target region'
refuse scheme/a.hpp '#include <xsimd/xsimd.hpp>' 'may not use xsimd'
refuse simd/cpu.hpp '#include <xsimd/xsimd.hpp>' 'may not use xsimd'
refuse qat/a.hpp '#include <nlohmann/json.hpp>' 'may not use io'
refuse io/a.hpp '#include <flatbuffers/flatbuffers.h>' 'may not use flatbuffers'
refuse io/a.hpp '#include <zip.h>' 'may not use npz'
refuse notch.hpp '#include <Eigen/Core>' 'may not use eigen'
refuse notch.hpp '#include <notch/eigen/map.hpp>' 'the umbrella may not use the room eigen'
refuse core/a.hpp '#include "good.hpp"' 'write #include <...>'
refuse core/a.hpp '#include <notch/notch.hpp>' 'includes the umbrella'
refuse core/a.hpp '#include <notch/colour/red.hpp>' 'unknown room'
refuse core/a.hpp 'NOTCH_NAMESPACE_BEGIN\nnamespace detail {}\nNOTCH_NAMESPACE_END' 'detail is a keyed namespace'
refuse colour/red.hpp '' 'is not in rooms.txt'

echo "$planted planted violations, each found"
exit $failed
