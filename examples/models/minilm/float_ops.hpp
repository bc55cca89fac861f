// SPDX-License-Identifier: Apache-2.0
//
// The float arithmetic of a transformer in Eigen: what INT8 is compared with, and what lies between the products of the
// variants that quantize no more than those.
#pragma once

#include <cmath>
#include <cstdint>

#include <Eigen/Core>
#include <unsupported/Eigen/SpecialFunctions>

#include <notch/core/parallel.hpp>

namespace minilm::fp32 {

using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using rows_map = Eigen::Map<const matrix, 0, Eigen::OuterStride<>>;
using row = Eigen::Map<Eigen::Array<float, 1, Eigen::Dynamic>>;
using const_row = Eigen::Map<const Eigen::Array<float, 1, Eigen::Dynamic>>;

/// f(begin, end) for parts of 0 ... n, one for each thread.
template <class F> void in_parts(const notch::executor_ref& executor, std::int64_t n, F&& f) {
    const std::int64_t parts = executor.concurrency();
    auto part = [&](notch::index_t i) { f(n * i / parts, n * (i + 1) / parts); };
    executor.run(parts, {[](void* p, notch::index_t i) { (*static_cast<decltype(part)*>(p))(i); }, &part});
}

/// y = x w^T + bias: rows x k times n x k.
inline void product(const float* x, std::int64_t rows, std::int64_t k, const float* w, std::int64_t n,
                    const float* bias, float* y) {
    Eigen::Map<matrix> out(y, rows, n);
    out.noalias() = Eigen::Map<const matrix>(x, rows, k) * Eigen::Map<const matrix>(w, n, k).transpose();
    for (std::int64_t i = 0; i < rows; ++i) out.row(i).array() += const_row(bias, n);
}

/// Attention of all heads. qkv: rows of [heads][size] queries, then keys, then values; y: rows of [heads][size].
inline void attention(const float* qkv, std::int64_t rows, std::int64_t heads, std::int64_t size, float* y,
                      const notch::executor_ref& executor) {
    const std::int64_t width = heads * size;
    const Eigen::OuterStride<> stride(3 * width);
    const float scale = 1.0f / std::sqrt(static_cast<float>(size));
    in_parts(executor, heads, [&](std::int64_t begin, std::int64_t end) {
        matrix scores(rows, rows);
        for (std::int64_t h = begin; h < end; ++h) {
            const float* at = qkv + h * size;
            scores.noalias() = rows_map(at, rows, size, stride) * rows_map(at + width, rows, size, stride).transpose();
            for (std::int64_t i = 0; i < rows; ++i) {
                auto s = scores.row(i).array();
                s = ((s - s.maxCoeff()) * scale).exp();
                s *= 1.0f / s.sum();
            }
            Eigen::Map<matrix, 0, Eigen::OuterStride<>>(y + h * size, rows, size, Eigen::OuterStride<>(width))
                .noalias() = scores * rows_map(at + 2 * width, rows, size, stride);
        }
    });
}

/// x / 2 (1 + erf(x / sqrt 2)), in place.
inline void gelu(float* x, std::int64_t n, const notch::executor_ref& executor) {
    constexpr std::int64_t block = 1024; // stays in L1
    in_parts(executor, (n + block - 1) / block, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin * block; i < n && i < end * block; i += block) {
            row part(x + i, n - i < block ? n - i : block);
            part *= 0.5f + 0.5f * (part * 0.70710678f).erf();
        }
    });
}

/// y += x, then x = layer norm of y.
inline void add_norm(float* y, float* x, std::int64_t rows, std::int64_t cols, const float* gamma, const float* beta,
                     float epsilon, const notch::executor_ref& executor) {
    const const_row g(gamma, cols), b(beta, cols);
    in_parts(executor, rows, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            row sum(y + i * cols, cols), out(x + i * cols, cols);
            sum += out;
            const float mean = sum.mean();
            const float variance = (sum - mean).square().mean();
            out = (sum - mean) * (1.0f / std::sqrt(variance + epsilon)) * g + b;
        }
    });
}

} // namespace minilm::fp32
