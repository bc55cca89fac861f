// SPDX-License-Identifier: Apache-2.0
//
// notch/ptq/brecq.hpp: BRECQ (Li et al. 2021, arXiv:2102.05426): whether each weight is rounded down or up is learned
// for all layers of a block together, so that the block's output z over some inputs stays what it was. Layers make good
// what others of the block spoil, which rounding one layer at a time cannot:
//
//     error = sum over inputs of (z - z_target)^T diag(f) (z - z_target)                            (section 3.3)
//     loss = error + lambda * sum of (1 - |2 h - 1|^beta)
//
// f are the squares of the gradients of the task's loss in z (the diagonal of the Fisher information), or 1. Rounding
// variables, regularizer and schedule are those of AdaRound (soft_rounding.hpp). The block is the caller's: any code
// that computes z from weights, and gradients of the weights from those of z.
//
// Batches are taken in turn, so nothing is random. The error is scaled so that the nearest codes have that of rounding
// errors that are independent and uniform, 1/12 a weight; so lambda means the same for every block. (The paper's 0.01
// is for errors in the units of z and ten times as many iterations.) A block that ends worse than with the nearest
// codes keeps those.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <span>
#include <type_traits>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/core/view.hpp>
#include <notch/ptq/progress.hpp>
#include <notch/ptq/soft_rounding.hpp>
#include <notch/scheme/range.hpp>

NOTCH_NAMESPACE_BEGIN

/// A block of layers, as brecq calls it, for batch b of its inputs, which the block keeps:
///
///   forward(b, weights, z)        z = the output with these weights, a dense matrix of the extents of target b
///   backward(b, weights, dz, dw)  called after forward with the same b and weights: dw[l] = the gradient of
///                                 sum of dz * z in the weights of layer l. dw is 0 before the call
///
/// Weights and gradients are dense matrices in the order and of the extents of brecq's layers. The block may quantize
/// its activations: then the gradient is the straight-through one. The same call must always give the same result.
template <class Block>
concept reconstruction_block = requires(Block& block, index_t b, std::span<const matrix_view<const float>> weights,
                                        matrix_view<float> z, matrix_view<const float> dz,
                                        std::span<const matrix_view<float>> dw) {
    block.forward(b, weights, z);
    block.backward(b, weights, dz, dw);
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN

/// The weights of a layer, outputs x inputs, and their codes. params has one entry for all, or one for each output and
/// each group of inputs, row by row: outputs * ceil(inputs / group).
template <range_type Range> struct brecq_layer {
    matrix_view<const float> w;
    std::span<const quant_params> params;
    matrix_view<typename Range::code_type> codes;
    index_t group = 0; ///< inputs that share parameters; 0: all of a row
};

/// As soft_rounding_options, but for the defaults.
struct brecq_options {
    index_t iterations = 2000;           ///< >= 1
    float learning_rate = 0.01f;         ///< > 0
    float lambda = 2;                    ///< >= 0
    float beta_begin = 20, beta_end = 2; ///< >= 1
    float warm_up = 0.2f;                ///< the part of the iterations without the second term, in [0, 1)
};

/// What brecq found: the errors over all batches, weighted with f.
struct brecq_result {
    double nearest = 0; ///< with the nearest codes
    double error = 0;   ///< with the codes that were chosen, <= nearest
};

namespace detail {

/// All weights of a block one after the other: as variables, as dequantized values, as gradients.
template <range_type Range> class brecq_weights {
public:
    brecq_weights(const char* where, std::span<const brecq_layer<Range>> layers)
        : layers_(layers), rounding_(count(where, layers), {Range::qmin, Range::qmax}), values_(rounding_.size()),
          gradients_(rounding_.size()), value_views_(static_cast<index_t>(layers.size())),
          gradient_views_(static_cast<index_t>(layers.size())) {
        index_t at = 0;
        for (std::size_t l = 0; l < layers.size(); ++l) {
            const auto& w = layers[l].w;
            value_views_[static_cast<index_t>(l)] = {values_.data() + at, w.rows, w.cols};
            gradient_views_[static_cast<index_t>(l)] = {gradients_.data() + at, w.rows, w.cols};
            for (index_t r = 0; r < w.rows; ++r)
                for (index_t c = 0; c < w.cols; ++c, ++at) {
                    if (!std::isfinite(w(r, c)))
                        fail(errc::invalid_argument,
                             cat(where, ": w(", r, ", ", c, ") of layer ", static_cast<index_t>(l), " is ", w(r, c)));
                    rounding_.start(at, w(r, c), params_of(layers[l], r, c));
                }
        }
    }
    [[nodiscard]] index_t size() const noexcept { return rounding_.size(); }
    [[nodiscard]] std::span<const matrix_view<const float>> values() const noexcept { return value_views_.span(); }
    [[nodiscard]] std::span<const matrix_view<float>> gradients() noexcept {
        std::fill(gradients_.begin(), gradients_.end(), 0.0f);
        return gradient_views_.span();
    }
    /// Dequantizes code(i) of all weights.
    template <class Code> void dequantize(const Code& code) noexcept {
        each([&](const brecq_layer<Range>& l, index_t r, index_t c, index_t at) {
            const quant_params p = params_of(l, r, c);
            values_[at] = (code(at) - static_cast<float>(p.zero_point)) * p.scale;
        });
    }
    void dequantize_soft() noexcept {
        dequantize([&](index_t i) { return rounding_.soft(i); });
    }
    void dequantize_hard() noexcept {
        dequantize([&](index_t i) { return rounding_.hard(i); });
    }
    void dequantize_nearest() noexcept {
        dequantize([&](index_t i) { return rounding_.nearest(i); });
    }
    /// A step against the gradients in the values.
    void step(const char* where, index_t t, const soft_rounding_options& o) {
        each([&](const brecq_layer<Range>& l, index_t r, index_t c, index_t at) {
            if (!std::isfinite(gradients_[at]))
                fail(errc::invalid_argument,
                     cat(where, ": in iteration ", t, " the block gives a gradient of ", gradients_[at], " for w(", r,
                         ", ", c, ") of layer ", static_cast<index_t>(&l - layers_.data())));
            gradients_[at] *= params_of(l, r, c).scale;
        });
        rounding_.step(t, gradients_.span(), o);
    }
    void codes(bool learned) const noexcept {
        each([&](const brecq_layer<Range>& l, index_t r, index_t c, index_t at) {
            l.codes(r, c) =
                static_cast<typename Range::code_type>(learned ? rounding_.hard(at) : rounding_.nearest(at));
        });
    }

private:
    static index_t groups(const brecq_layer<Range>& l) noexcept {
        return l.group == 0 ? 1 : l.w.cols / l.group + (l.w.cols % l.group != 0 ? 1 : 0);
    }
    static quant_params params_of(const brecq_layer<Range>& l, index_t r, index_t c) noexcept {
        if (l.params.size() == 1) return l.params[0];
        return l.params[static_cast<std::size_t>(r * groups(l) + (l.group == 0 ? 0 : c / l.group))];
    }
    /// The number of weights, of layers that are in order.
    static index_t count(const char* where, std::span<const brecq_layer<Range>> layers) {
        index_t n = 0;
        for (const brecq_layer<Range>& l : layers) {
            check_view(where, "w", l.w);
            check_view(where, "codes", l.codes);
            check_equal(where, "the number of rows of codes", l.codes.rows, l.w.rows);
            check_equal(where, "the number of columns of codes", l.codes.cols, l.w.cols);
            check_extent(where, "group", l.group);
            if (l.params.size() != 1)
                check_equal(where, "the number of params", static_cast<index_t>(l.params.size()),
                            checked_product(where, l.w.rows, groups(l)));
            for (const quant_params& p : l.params) check_params(where, "params", p, Range::qmin, Range::qmax);
            n += checked_product(where, l.w.rows, l.w.cols);
        }
        return n;
    }
    template <class Each> void each(const Each& f) const {
        index_t at = 0;
        for (const brecq_layer<Range>& l : layers_)
            for (index_t r = 0; r < l.w.rows; ++r)
                for (index_t c = 0; c < l.w.cols; ++c, ++at) f(l, r, c, at);
    }

    std::span<const brecq_layer<Range>> layers_;
    soft_rounding rounding_;
    buffer<float> values_, gradients_;
    buffer<matrix_view<const float>> value_views_;
    buffer<matrix_view<float>> gradient_views_;
};

} // namespace detail

/// Chooses the codes of all layers. targets has the outputs of the block with its float weights, one matrix for each
/// batch of inputs: those of the float network, whereas the block's own inputs may come from blocks that are quantized
/// already. f is empty, or like targets, with weights >= 0. progress(done, iterations) is called after each iteration,
/// which takes one forward and one backward of the block; with 2 * batches more forwards in all.
template <range_type Range, reconstruction_block Block, class Progress = detail::no_progress>
brecq_result brecq(Block&& block, std::type_identity_t<std::span<const brecq_layer<Range>>> layers,
                   std::span<const matrix_view<const float>> targets, std::span<const matrix_view<const float>> f = {},
                   const brecq_options& o = {}, Progress&& progress = {}) {
    constexpr const char* where = "brecq";
    const soft_rounding_options how{o.iterations, o.learning_rate, o.lambda, o.beta_begin, o.beta_end, o.warm_up};
    detail::check_soft_rounding(where, how);
    if (layers.empty() || targets.empty())
        fail(errc::invalid_argument, detail::cat(where, ": there are ", static_cast<index_t>(layers.size()),
                                                 " layers and ", static_cast<index_t>(targets.size()), " targets"));
    if (!f.empty())
        detail::check_equal(where, "the number of matrices of f", static_cast<index_t>(f.size()),
                            static_cast<index_t>(targets.size()));
    index_t most = 0;
    for (std::size_t b = 0; b < targets.size(); ++b) {
        const matrix_view<const float>& t = targets[b];
        detail::check_view(where, "targets", t);
        for (index_t r = 0; r < t.rows; ++r)
            for (index_t c = 0; c < t.cols; ++c)
                if (!std::isfinite(t(r, c)))
                    fail(errc::invalid_argument,
                         detail::cat(where, ": targets[", static_cast<index_t>(b), "](", r, ", ", c, ") is ", t(r, c)));
        most = std::max(most, detail::checked_product(where, t.rows, t.cols));
        if (f.empty()) continue;
        detail::check_view(where, "f", f[b]);
        detail::check_equal(where, "the number of rows of f", f[b].rows, t.rows);
        detail::check_equal(where, "the number of columns of f", f[b].cols, t.cols);
        for (index_t r = 0; r < t.rows; ++r)
            for (index_t c = 0; c < t.cols; ++c)
                if (!(f[b](r, c) >= 0.0f) || !std::isfinite(f[b](r, c)))
                    fail(errc::invalid_argument, detail::cat(where, ": f[", static_cast<index_t>(b), "](", r, ", ", c,
                                                             ") is ", f[b](r, c), ", must be finite and >= 0"));
    }
    detail::brecq_weights<Range> weights(where, layers);
    buffer<float> output(most);
    // The error of a batch; output becomes factor times f (z - z_target).
    const auto error_of = [&](std::size_t b, double factor) {
        const matrix_view<const float>& t = targets[b];
        const matrix_view<float> z(output.data(), t.rows, t.cols);
        block.forward(static_cast<index_t>(b), weights.values(), z);
        double sum = 0;
        for (index_t r = 0; r < t.rows; ++r)
            for (index_t c = 0; c < t.cols; ++c) {
                const double d = static_cast<double>(z(r, c)) - static_cast<double>(t(r, c)),
                             part = f.empty() ? d : d * static_cast<double>(f[b](r, c));
                sum += d * part;
                z(r, c) = static_cast<float>(part * factor);
            }
        if (!std::isfinite(sum))
            fail(errc::invalid_argument,
                 detail::cat(where, ": the output of the block for batch ", static_cast<index_t>(b), " is not finite"));
        return sum;
    };
    const auto error = [&] {
        double sum = 0;
        for (std::size_t b = 0; b < targets.size(); ++b) sum += error_of(b, 0);
        return sum;
    };

    brecq_result found;
    weights.dequantize_nearest();
    found.nearest = found.error = error();
    if (found.nearest == 0.0) { // nothing to gain
        weights.codes(false);
        return found;
    }
    const double scale = static_cast<double>(weights.size()) / 12.0 / found.nearest;
    for (index_t t = 0; t < o.iterations; ++t) {
        const std::size_t b = static_cast<std::size_t>(t) % targets.size();
        weights.dequantize_soft();
        (void)error_of(b, 2.0 * scale * static_cast<double>(targets.size()));
        block.backward(static_cast<index_t>(b), weights.values(),
                       matrix_view<const float>(output.data(), targets[b].rows, targets[b].cols), weights.gradients());
        weights.step(where, t, how);
        progress(t + 1, o.iterations);
    }
    weights.dequantize_hard();
    const double learned = error();
    if (learned <= found.nearest) found.error = learned;
    weights.codes(learned <= found.nearest);
    return found;
}

NOTCH_KEYED_END
