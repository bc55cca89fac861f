// SPDX-License-Identifier: Apache-2.0
//
// The fp32 path that INT8 is compared with: Eigen, compiled once for each instruction set (a
// baseline-flags Eigen would flatter INT8). Each build is a shared library with hidden symbols, so
// that Eigen's templates of different flags never meet. Batch norm is folded, bias and nonlinearity
// are fused into one pass: what a careful user of Eigen would write.
#pragma once

#include <cstdint>

namespace mnist {

enum class fp32_op : std::int32_t { conv, depthwise, max_pool, add, global_average };

/// One step of a network; x and y index the caller's buffers of floats.
struct fp32_step {
    fp32_op op;
    std::int32_t x, y, other; ///< other: the second operand of add
    std::int32_t in_h, in_w, in_c, out_h, out_w, out_c;
    std::int32_t kernel, stride, pad;
    const float* w; ///< conv [out][k][k][in], depthwise [k][k][c]
    const float* b;
    float lo, hi; ///< the nonlinearity as bounds
};

} // namespace mnist

// One entry a build; scratch holds fp32_scratch floats.
#define NOTCH_DEMO_FP32_NAME_(isa) notch_demo_fp32_##isa
#define NOTCH_DEMO_FP32_NAME(isa) NOTCH_DEMO_FP32_NAME_(isa)
#define NOTCH_DEMO_FP32(isa)                                                                                           \
    extern "C" __attribute__((visibility("default"))) void NOTCH_DEMO_FP32_NAME(isa)(                                  \
        const mnist::fp32_step* steps, int count, float* const* buffers, int batch, float* scratch)
NOTCH_DEMO_FP32(baseline);
NOTCH_DEMO_FP32(avx2);
NOTCH_DEMO_FP32(avx512);
