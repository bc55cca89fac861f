// SPDX-License-Identifier: Apache-2.0
//
// notch/qat/integer_backward.hpp: the two products of a backward pass on the integer kernels, with gradients of 8 bits.
// For z = x w^T, x and w being the codes that the forward pass had:
//
//   dx[r][k] = sum over n of dz[r][n] * w_scale[n] * w[n][k]
//            ~ s[r] * sum q[r][n] * w[n][k],            q = round(dz[r][n] * w_scale[n] / s[r])
//   dw[n][k] = x.scale * sum over r of dz[r][n] * (x[r][k] - x.zero_point)
//            ~ x.scale * t[n] * sum q[r][n] * (x[r][k] - x.zero_point),    q = round(dz[r][n] / t[n])
//
// s[r] and t[n] are the largest magnitudes of their row and column over 127. round is stochastic, so the expectation of
// both is the product itself (Gupta et al. 2015, arXiv:1502.02551; gradients of 8 bits: Banner et al. 2018,
// arXiv:1805.11046). The sums are exact, so the gradients are the same on every instruction set.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <span>

#include <notch/core/buffer.hpp>
#include <notch/core/view.hpp>
#include <notch/kernels/epilogue.hpp>
#include <notch/kernels/gemm_batched.hpp>
#include <notch/kernels/quantize.hpp>
#include <notch/scheme/range.hpp>
#include <notch/scheme/rounding.hpp>

NOTCH_KEYED_BEGIN

/// Keeps scratch memory and the number of calls, each of which rounds by a stream of its own: one seed and the same
/// calls give the same gradients. Give each layer its own seed. Not thread-safe.
class integer_backward {
public:
    explicit integer_backward(std::uint64_t seed = 0) : rounding_{seed, 0} {}

    /// dx = dz w. dz: rows x n, finite, n at most 33025 (errc::overflow: an accumulator is proved for no more); w: n x
    /// k codes; w_scales: one, or one for each of the n, whose products with dz are finite too; dx: rows x k.
    void input_gradient(matrix_view<const float> dz, matrix_view<const std::int8_t> w, std::span<const float> w_scales,
                        matrix_view<float> dx, const context& ctx = {}) {
        constexpr const char* where = "integer_backward.input_gradient";
        detail::check_view(where, "dz", dz);
        detail::check_view(where, "w", w);
        detail::check_view(where, "dx", dx);
        detail::check_equal(where, "the number of rows of w", w.rows, dz.cols);
        detail::check_equal(where, "the number of rows of dx", dx.rows, dz.rows);
        detail::check_equal(where, "the number of columns of dx", dx.cols, w.cols);
        if (w_scales.size() != 1)
            detail::check_equal(where, "the number of w_scales", static_cast<index_t>(w_scales.size()), dz.cols);
        for (std::size_t c = 0; c < w_scales.size(); ++c)
            detail::check_scale(where, {"w_scales", static_cast<index_t>(c)}, w_scales[c]);
        check_finite(where, dz);
        const index_t rows = dz.rows, n = dz.cols;
        if (n > most_columns)
            fail(errc::overflow,
                 detail::cat(where, ": dz has ", n, " columns, at most ", most_columns, " can be added"));
        if (dx.rows == 0 || dx.cols == 0) return;
        if (n == 0) {
            for (index_t r = 0; r < rows; ++r)
                for (index_t k = 0; k < dx.cols; ++k) dx(r, k) = 0.0f;
            return;
        }
        const bool one = w_scales.size() == 1;
        real_.resize_discard(rows * n);
        for (index_t r = 0; r < rows; ++r)
            for (index_t c = 0; c < n; ++c) {
                const float product = dz(r, c) * w_scales[one ? 0 : static_cast<std::size_t>(c)];
                if (!std::isfinite(product))
                    fail(errc::overflow, detail::cat(where, ": dz(", r, ", ", c, ") * w_scales is ", product));
                real_[r * n + c] = product;
            }
        quantize_gradient({1, rows, n});
        accumulate(matrix_view<const std::int8_t>(codes_.data(), rows, n), w, 0, ctx);
        for (index_t r = 0; r < rows; ++r) {
            const float s = params_[r].scale;
            const std::int32_t* const sum = sums_.data() + r * dx.cols;
            float* const to = dx.data + r * dx.stride;
            for (index_t k = 0; k < dx.cols; ++k) to[k] = s * static_cast<float>(sum[k]);
        }
    }

    /// dw += dz^T x. dz: rows x n, finite; x: rows x k codes with the parameters p; dw: n x k.
    void weight_gradient(matrix_view<const float> dz, matrix_view<const std::uint8_t> x, quant_params p,
                         matrix_view<float> dw, const context& ctx = {}) {
        constexpr const char* where = "integer_backward.weight_gradient";
        detail::check_view(where, "dz", dz);
        detail::check_view(where, "x", x);
        detail::check_view(where, "dw", dw);
        detail::check_params(where, "x", p, 0, 255);
        detail::check_equal(where, "the number of rows of x", x.rows, dz.rows);
        detail::check_equal(where, "the number of rows of dw", dw.rows, dz.cols);
        detail::check_equal(where, "the number of columns of dw", dw.cols, x.cols);
        check_finite(where, dz);
        const index_t n = dz.cols;
        if (n == 0 || x.cols == 0) return;
        // As many rows at a time as an accumulator is proved for.
        for (index_t first = 0; first < dz.rows; first += most_rows) {
            const index_t rows = dz.rows - first < most_rows ? dz.rows - first : most_rows;
            real_.resize_discard(n * rows); // transposed: the left side of the product
            for (index_t r = 0; r < rows; ++r)
                for (index_t c = 0; c < n; ++c) real_[c * rows + r] = dz(first + r, c);
            quantize_gradient({1, n, rows});
            accumulate(matrix_view<const std::int8_t>(codes_.data(), n, rows),
                       matrix_view<const std::uint8_t>(x.data + first * x.stride, rows, x.cols, x.stride), p.zero_point,
                       ctx);
            for (index_t c = 0; c < n; ++c) {
                const float product = params_[c].scale * p.scale, s = product > FLT_MAX ? FLT_MAX : product;
                const std::int32_t* const sum = sums_.data() + c * dw.cols;
                float* const to = dw.data + c * dw.stride;
                for (index_t k = 0; k < dw.cols; ++k) to[k] += s * static_cast<float>(sum[k]);
            }
        }
    }

private:
    static constexpr index_t most_rows = 16384, most_columns = 2147483647 / (255 * 255);

    /// A gradient that went wrong must not come out as a saturated code.
    static void check_finite(const char* where, matrix_view<const float> dz) {
        for (index_t r = 0; r < dz.rows; ++r)
            for (index_t c = 0; c < dz.cols; ++c)
                if (!std::isfinite(dz(r, c)))
                    fail(errc::invalid_argument, detail::cat(where, ": dz(", r, ", ", c, ") is ", dz(r, c)));
    }
    /// real_ to codes_, the channels of the layout by scales of their own, params_.
    void quantize_gradient(const channel_layout& rows) {
        codes_.resize_discard(rows.size());
        params_.resize_discard(rows.channels);
        for (index_t r = 0; r < rows.channels; ++r)
            params_[r] = params_from_range<symmetric<8>>(
                value_range({real_.data() + r * rows.inner, static_cast<std::size_t>(rows.inner)}));
        ++rounding_.stream;
        quantize<symmetric<8>>(real_, rows, params_, codes_, rounding_);
    }
    /// sums_ = left * (right - zero_point).
    template <class Code>
    void accumulate(matrix_view<const std::int8_t> left, matrix_view<const Code> right, std::int32_t zero_point,
                    const context& ctx) {
        sums_.resize_discard(left.rows * right.cols);
        const activation_operand operand = make_operand<Code>(right.cols, right.rows, zero_point);
        const auto ep = make_epilogue(operand, stage::accumulators{0}, stage::s8_input{});
        context inner = ctx;
        const index_t need = gemm_batched_workspace_size(operand, ctx);
        if (static_cast<index_t>(ctx.workspace.size()) < need) {
            if (workspace_.size() < need) workspace_ = buffer<std::byte>(need);
            inner.workspace = workspace_;
        }
        gemm_batched<rhs::plain>(batch_view<const std::int8_t>(left.data, 1, left.rows, left.cols, left.stride, 0),
                                 batch_view<const Code>(right.data, 1, right.rows, right.cols, right.stride, 0),
                                 operand, ep, batch_view<std::int32_t>(sums_.data(), 1, left.rows, right.cols), inner);
    }

    stochastic rounding_;
    buffer<float> real_;
    buffer<std::int8_t> codes_;
    buffer<quant_params> params_;
    buffer<std::int32_t> sums_;
    buffer<std::byte> workspace_;
};

NOTCH_KEYED_END
