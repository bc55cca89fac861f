// SPDX-License-Identifier: Apache-2.0
#include <Eigen/Core>

#include <algorithm>
#include <cstring>

#include "fp32.hpp"

namespace mnist {
namespace {

using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using row = Eigen::Map<Eigen::Array<float, 1, Eigen::Dynamic>>;
using const_row = Eigen::Map<const Eigen::Array<float, 1, Eigen::Dynamic>>;

/// y = clamp(a * w^T + b): rows x k times out x k.
void product(const fp32_step& s, const float* a, Eigen::Index rows, Eigen::Index k, float* y) {
    Eigen::Map<matrix> out(y, rows, s.out_c);
    const Eigen::Map<const matrix> w(s.w, s.out_c, k), x(a, rows, k);
    if (rows == 1)
        out.row(0).noalias() = (w * x.row(0).transpose()).transpose(); // matrix times vector
    else
        out.noalias() = x * w.transpose();
    const const_row b(s.b, s.out_c);
    for (Eigen::Index r = 0; r < rows; ++r) {
        row line(y + r * s.out_c, s.out_c);
        line = (line + b).max(s.lo).min(s.hi);
    }
}

/// The image with its zero border.
const float* padded(const fp32_step& s, const float* x, float* scratch) {
    if (s.pad == 0) return x;
    const std::size_t width = static_cast<std::size_t>(s.in_w + 2 * s.pad) * static_cast<std::size_t>(s.in_c);
    const std::size_t inner = static_cast<std::size_t>(s.in_w * s.in_c);
    std::fill_n(scratch, width * static_cast<std::size_t>(s.in_h + 2 * s.pad), 0.0f);
    for (int y = 0; y < s.in_h; ++y)
        std::memcpy(scratch + static_cast<std::size_t>(y + s.pad) * width + static_cast<std::size_t>(s.pad * s.in_c),
                    x + static_cast<std::size_t>(y) * inner, inner * sizeof(float));
    return scratch;
}

void conv(const fp32_step& s, const float* x, float* y, int batch, float* scratch) {
    const Eigen::Index in = Eigen::Index{s.in_h} * s.in_w * s.in_c, pixels = Eigen::Index{s.out_h} * s.out_w;
    if (s.kernel == 1 && s.stride == 1 && s.pad == 0) {
        product(s, x, batch * pixels, s.in_c, y);
        return;
    }
    // im2col of one image at a time, so that it stays in the cache.
    const int width = s.in_w + 2 * s.pad;
    const std::size_t run = static_cast<std::size_t>(s.kernel * s.in_c);
    float* image = scratch;
    float* col = scratch + static_cast<std::size_t>(s.in_h + 2 * s.pad) * static_cast<std::size_t>(width * s.in_c);
    for (int n = 0; n < batch; ++n) {
        const float* from = padded(s, x + n * in, image);
        float* to = col;
        for (int oy = 0; oy < s.out_h; ++oy)
            for (int ox = 0; ox < s.out_w; ++ox)
                for (int ky = 0; ky < s.kernel; ++ky, to += run) {
                    const float* p =
                        from + (static_cast<std::ptrdiff_t>(oy * s.stride + ky) * width + ox * s.stride) * s.in_c;
                    if (run == 3) { // a loop of known length
                        to[0] = p[0];
                        to[1] = p[1];
                        to[2] = p[2];
                    } else {
                        std::memcpy(to, p, run * sizeof(float));
                    }
                }
        product(s, col, pixels, static_cast<Eigen::Index>(run) * s.kernel, y + n * pixels * s.out_c);
    }
}

void depthwise(const fp32_step& s, const float* x, float* y, int batch, float* scratch) {
    const std::ptrdiff_t c = s.in_c, width = (s.in_w + 2 * s.pad) * c;
    for (int n = 0; n < batch; ++n) {
        const float* from = padded(s, x + static_cast<std::ptrdiff_t>(n) * s.in_h * s.in_w * c, scratch);
        for (int oy = 0; oy < s.out_h; ++oy)
            for (int ox = 0; ox < s.out_w; ++ox, y += c) {
                const float* p = from + oy * s.stride * width + ox * s.stride * c;
                const auto in = [&](int ky, int kx) { return const_row(p + ky * width + kx * c, c); };
                const auto w = [&](int ky, int kx) { return const_row(s.w + (ky * 3 + kx) * c, c); };
                // 3 x 3 in one expression: the sums stay in registers.
                row(y, c) = (const_row(s.b, c) + in(0, 0) * w(0, 0) + in(0, 1) * w(0, 1) + in(0, 2) * w(0, 2) +
                             in(1, 0) * w(1, 0) + in(1, 1) * w(1, 1) + in(1, 2) * w(1, 2) + in(2, 0) * w(2, 0) +
                             in(2, 1) * w(2, 1) + in(2, 2) * w(2, 2))
                                .max(s.lo)
                                .min(s.hi);
            }
    }
}

void max_pool(const fp32_step& s, const float* x, float* y, int batch) {
    const std::ptrdiff_t c = s.in_c, line = s.in_w * c;
    for (int n = 0; n < batch; ++n, x += s.in_h * line)
        for (int oy = 0; oy < s.out_h; ++oy)
            for (int ox = 0; ox < s.out_w; ++ox, y += c) {
                const float* p = x + 2 * oy * line + 2 * ox * c;
                row(y, c) = const_row(p, c)
                                .max(const_row(p + c, c))
                                .max(const_row(p + line, c))
                                .max(const_row(p + line + c, c));
            }
}

} // namespace
} // namespace mnist

// Only this symbol leaves the library.
NOTCH_DEMO_FP32(NOTCH_DEMO_ISA) {
    using namespace mnist;
    for (int i = 0; i < count; ++i) {
        const fp32_step& s = steps[i];
        const float* x = buffers[s.x];
        float* y = buffers[s.y];
        const std::ptrdiff_t size = static_cast<std::ptrdiff_t>(batch) * s.out_h * s.out_w * s.out_c;
        switch (s.op) {
        case fp32_op::conv: conv(s, x, y, batch, scratch); break;
        case fp32_op::depthwise: depthwise(s, x, y, batch, scratch); break;
        case fp32_op::max_pool: max_pool(s, x, y, batch); break;
        case fp32_op::add: row(y, size) = const_row(x, size) + const_row(buffers[s.other], size); break;
        case fp32_op::global_average: {
            const Eigen::Index pixels = Eigen::Index{s.in_h} * s.in_w;
            for (int n = 0; n < batch; ++n)
                Eigen::Map<Eigen::RowVectorXf>(y + std::ptrdiff_t{n} * s.in_c, s.in_c) =
                    Eigen::Map<const matrix>(x + n * pixels * s.in_c, pixels, s.in_c).colwise().mean();
            break;
        }
        }
    }
}
