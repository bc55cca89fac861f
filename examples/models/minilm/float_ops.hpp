// SPDX-License-Identifier: Apache-2.0
//
// The float arithmetic of a transformer in Eigen, compiled once for each instruction set: what INT8 is compared with,
// and what lies between the products of the variants that quantize no more than those. Each build is a shared library
// with hidden symbols, so that Eigen's templates of different flags never meet.
#pragma once

#include <cstdint>

namespace minilm {

struct float_ops {
    /// y = x w^T + bias: rows x k times n x k.
    void (*product)(const float* x, std::int64_t rows, std::int64_t k, const float* w, std::int64_t n,
                    const float* bias, float* y);
    /// Attention of all heads. qkv: rows of [heads][size] queries, then keys, then values; y: rows of [heads][size].
    void (*attention)(const float* qkv, std::int64_t rows, std::int64_t heads, std::int64_t size, float* y);
    /// x / 2 (1 + erf(x / sqrt 2)), in place.
    void (*gelu)(float* x, std::int64_t n);
    /// y += x, then x = layer norm of y.
    void (*add_norm)(float* y, float* x, std::int64_t rows, std::int64_t cols, const float* gamma, const float* beta,
                     float epsilon);
};

} // namespace minilm

#define MINILM_FLOAT_NAME_(isa) minilm_float_##isa
#define MINILM_FLOAT_NAME(isa) MINILM_FLOAT_NAME_(isa)
#define MINILM_FLOAT(isa)                                                                                              \
    extern "C" __attribute__((visibility("default"))) const minilm::float_ops* MINILM_FLOAT_NAME(isa)()
MINILM_FLOAT(baseline);
MINILM_FLOAT(avx2);
MINILM_FLOAT(avx512);
