// SPDX-License-Identifier: Apache-2.0
//
// notch/layers/float_math.hpp: the fp32 arithmetic of the training layers, in Eigen: products,
// their gradients (also on the integer kernels), and the patches of a convolution as rows (im2col).
#pragma once

#include <Eigen/Core>

#include <algorithm>
#include <span>

#include <notch/eigen/map.hpp>
#include <notch/kernels/conv.hpp>
#include <notch/kernels/pack.hpp>
#include <notch/layers/activation.hpp>
#include <notch/qat/integer_backward.hpp>
#include <notch/scheme/granularity.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

/// Patches as rows: col[pixel][ky][kx][c], `outside` outside the image.
template <class T>
void im2col(const T* x, index_t n, index_t h, index_t w, index_t c, const window& s, T outside, T* col) {
    const index_t oh = s.out_h(h), ow = s.out_w(w);
    for (index_t i = 0; i < n; ++i)
        for (index_t y = 0; y < oh; ++y)
            for (index_t xo = 0; xo < ow; ++xo)
                for (index_t ky = 0; ky < s.kernel_h; ++ky)
                    for (index_t kx = 0; kx < s.kernel_w; ++kx, col += c) {
                        const index_t iy = y * s.stride_h - s.pad_top + ky * s.dilation_h;
                        const index_t ix = xo * s.stride_w - s.pad_left + kx * s.dilation_w;
                        const bool inside = iy >= 0 && iy < h && ix >= 0 && ix < w;
                        if (inside)
                            std::copy_n(x + ((i * h + iy) * w + ix) * c, c, col);
                        else
                            std::fill_n(col, c, outside);
                    }
}
/// The transpose of im2col: adds each patch to dx.
inline void col2im(const float* col, index_t n, index_t h, index_t w, index_t c, const window& s, float* dx) {
    const index_t oh = s.out_h(h), ow = s.out_w(w);
    for (index_t i = 0; i < n; ++i)
        for (index_t y = 0; y < oh; ++y)
            for (index_t xo = 0; xo < ow; ++xo)
                for (index_t ky = 0; ky < s.kernel_h; ++ky)
                    for (index_t kx = 0; kx < s.kernel_w; ++kx, col += c) {
                        const index_t iy = y * s.stride_h - s.pad_top + ky * s.dilation_h;
                        const index_t ix = xo * s.stride_w - s.pad_left + kx * s.dilation_w;
                        if (iy < 0 || iy >= h || ix < 0 || ix >= w) continue;
                        float* to = dx + ((i * h + iy) * w + ix) * c;
                        for (index_t k = 0; k < c; ++k) to[k] += col[k];
                    }
}

/// The float arithmetic of a convolution: weights [out][kh][kw][in], channel axis 0.
struct conv_math {
    using packed_type = packed_weights;
    static constexpr bool depthwise = false;
    window geometry;
    index_t in = 0, out = 0;
    buffer<float> col, dcol;
    buffer<std::uint8_t> code_col;

    [[nodiscard]] index_t k() const noexcept { return geometry.kernel_h * geometry.kernel_w * in; }
    [[nodiscard]] index_t fan_in() const noexcept { return k(); }
    [[nodiscard]] channel_layout layout() const noexcept { return {1, out, k()}; }
    [[nodiscard]] packed_type pack(std::span<const std::int8_t> codes) const {
        return pack_conv2d(codes, out, in, geometry);
    }

    const float* patches(const float* x, const activation& shape) {
        if (is_pointwise(geometry)) return x;
        col.resize_discard(shape.n * geometry.out_h(shape.h) * geometry.out_w(shape.w) * k());
        im2col(x, shape.n, shape.h, shape.w, shape.c, geometry, 0.0f, col.data());
        return col.data();
    }
    void forward(const float* x, const activation& shape, std::span<const float> w, matrix_view<float> z) {
        const float* a = patches(x, shape);
        as_eigen(z).noalias() = as_eigen(matrix_view<const float>(a, z.rows, k())) *
                                as_eigen(matrix_view<const float>(w.data(), out, k())).transpose();
    }
    /// Adds to dw; writes dx if it is not null.
    void backward(const float* x, const activation& shape, std::span<const float> w, matrix_view<const float> dz,
                  std::span<float> dw, float* dx) {
        const float* a = patches(x, shape);
        as_eigen(matrix_view<float>(dw.data(), out, k())).noalias() +=
            as_eigen(dz).transpose() * as_eigen(matrix_view<const float>(a, dz.rows, k()));
        if (!dx) return;
        const auto weights = as_eigen(matrix_view<const float>(w.data(), out, k()));
        if (is_pointwise(geometry)) {
            as_eigen(matrix_view<float>(dx, dz.rows, k())).noalias() = as_eigen(dz) * weights;
            return;
        }
        dcol.resize_discard(dz.rows * k());
        as_eigen(matrix_view<float>(dcol.data(), dz.rows, k())).noalias() = as_eigen(dz) * weights;
        std::fill_n(dx, shape.size(), 0.0f);
        col2im(dcol.data(), shape.n, shape.h, shape.w, shape.c, geometry, dx);
    }
    /// The same from codes, by integer products.
    void backward(const activation& x, std::span<const std::int8_t> w, std::span<const float> w_scales,
                  matrix_view<const float> dz, std::span<float> dw, float* dx, integer_backward& products,
                  const context& ctx) {
        const std::uint8_t* a = x.codes.data();
        const bool pointwise = is_pointwise(geometry);
        if (!pointwise) {
            code_col.resize_discard(dz.rows * k());
            im2col(a, x.n, x.h, x.w, x.c, geometry, static_cast<std::uint8_t>(x.params.zero_point), code_col.data());
            a = code_col.data();
        }
        if (dx) { // first: what it refuses leaves dw as it was
            if (!pointwise) dcol.resize_discard(dz.rows * k());
            products.input_gradient(dz, matrix_view<const std::int8_t>(w.data(), out, k()), w_scales,
                                    matrix_view<float>(pointwise ? dx : dcol.data(), dz.rows, k()), ctx);
        }
        products.weight_gradient(dz, matrix_view<const std::uint8_t>(a, dz.rows, k()), x.params,
                                 matrix_view<float>(dw.data(), out, k()), ctx);
        if (!dx || pointwise) return;
        std::fill_n(dx, x.size(), 0.0f);
        col2im(dcol.data(), x.n, x.h, x.w, x.c, geometry, dx);
    }
};

/// The float arithmetic of a depthwise convolution: weights [kh][kw][channels], channel axis 2.
struct depthwise_math {
    using packed_type = packed_depthwise;
    static constexpr bool depthwise = true;
    window geometry;
    index_t in = 0, out = 0;

    [[nodiscard]] index_t taps() const noexcept { return geometry.kernel_h * geometry.kernel_w; }
    [[nodiscard]] index_t fan_in() const noexcept { return taps(); }
    [[nodiscard]] channel_layout layout() const noexcept { return {taps(), out, 1}; }
    [[nodiscard]] packed_type pack(std::span<const std::int8_t> codes) const {
        return pack_depthwise(codes, out, geometry);
    }

    /// Calls f(output pixel, tap, offset of the input pixel) for every tap inside the image.
    template <class F> void for_taps(const activation& shape, const F& f) const {
        const window& s = geometry;
        const index_t oh = s.out_h(shape.h), ow = s.out_w(shape.w);
        index_t pixel = 0;
        for (index_t i = 0; i < shape.n; ++i)
            for (index_t y = 0; y < oh; ++y)
                for (index_t x = 0; x < ow; ++x, ++pixel)
                    for (index_t ky = 0; ky < s.kernel_h; ++ky)
                        for (index_t kx = 0; kx < s.kernel_w; ++kx) {
                            const index_t iy = y * s.stride_h - s.pad_top + ky * s.dilation_h;
                            const index_t ix = x * s.stride_w - s.pad_left + kx * s.dilation_w;
                            if (iy >= 0 && iy < shape.h && ix >= 0 && ix < shape.w)
                                f(pixel, ky * s.kernel_w + kx, ((i * shape.h + iy) * shape.w + ix) * out);
                        }
    }
    using row = Eigen::Map<Eigen::Array<float, 1, Eigen::Dynamic>>;
    using const_row = Eigen::Map<const Eigen::Array<float, 1, Eigen::Dynamic>>;

    void forward(const float* x, const activation& shape, std::span<const float> w, matrix_view<float> z) {
        std::fill_n(z.data, z.rows * z.cols, 0.0f);
        for_taps(shape, [&](index_t pixel, index_t tap, index_t at) {
            row(z.data + pixel * out, out) += const_row(x + at, out) * const_row(w.data() + tap * out, out);
        });
    }
    void backward(const float* x, const activation& shape, std::span<const float> w, matrix_view<const float> dz,
                  std::span<float> dw, float* dx) {
        if (dx) std::fill_n(dx, shape.size(), 0.0f);
        for_taps(shape, [&](index_t pixel, index_t tap, index_t at) {
            const const_row d(dz.data + pixel * out, out);
            row(dw.data() + tap * out, out) += d * const_row(x + at, out);
            if (dx) row(dx + at, out) += d * const_row(w.data() + tap * out, out);
        });
    }
};

} // namespace detail
NOTCH_KEYED_END
