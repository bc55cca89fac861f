// SPDX-License-Identifier: Apache-2.0
//
// Quantizers of activations that are chosen at run time: real values become codes of 8, 4, 3 or 2 bits in an
// activation, with parameters that are given, follow an observer, or are learned.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <notch/kernels/quantize.hpp>
#include <notch/layers/activation.hpp>
#include <notch/observe/histogram.hpp>
#include <notch/observe/moving_average.hpp>
#include <notch/ptq/calibrate.hpp>
#include <notch/qat/fake_quant.hpp>
#include <notch/qat/learned_affine.hpp>
#include <notch/qat/learned_clip.hpp>
#include <notch/qat/learned_range.hpp>
#include <notch/qat/learned_threshold.hpp>

#include "weights.hpp"

namespace ablation {

using notch::activation;
using notch::buffer;

class activation_quantizer {
public:
    activation_quantizer() = default;
    activation_quantizer(const activation_quantizer&) = delete;
    activation_quantizer& operator=(const activation_quantizer&) = delete;
    virtual ~activation_quantizer() = default;
    /// Codes and parameters of y, which has its shape, from real values. training keeps what backward needs.
    virtual void forward(std::span<const float> x, activation& y, bool training, const notch::context& ctx) = 0;
    /// dy becomes dx, for the x of the last forward.
    virtual void backward(std::span<const float> x, std::span<float> dy) = 0;
    virtual void parameters(const group_visitor&) {}
};

/// Given parameters.
template <int Bits> class fixed_activation final : public activation_quantizer {
public:
    explicit fixed_activation(notch::quant_params p) : params_(p) {}
    void forward(std::span<const float> x, activation& y, bool, const notch::context& ctx) override {
        y.quantized = true;
        y.params = params_;
        y.codes.resize_discard(y.size());
        notch::quantize<notch::affine<Bits>>(x, params_, y.codes, ctx);
    }
    void backward(std::span<const float>, std::span<float>) override {
        notch::fail(notch::errc::unsupported, "ablation: fixed parameters are not for training");
    }

private:
    notch::quant_params params_;
};

/// Straight-through; the range follows the minima and maxima of the batches.
template <int Bits> class straight_activation final : public activation_quantizer {
public:
    explicit straight_activation(notch::real_range start) {
        const float ends[] = {start.min, start.max};
        seen_.observe(ends);
    }
    void forward(std::span<const float> x, activation& y, bool training, const notch::context& ctx) override {
        if (training) seen_.observe(x);
        y.quantized = true;
        y.params = notch::params_from_range<notch::affine<Bits>>(seen_.range());
        y.codes.resize_discard(y.size());
        if (training) mask_.resize_discard(y.size());
        notch::fake_quantize<notch::affine<Bits>>(x, {1, 1, y.size()}, {&y.params, 1}, y.codes, {},
                                                  training ? mask_.span() : std::span<std::uint8_t>(), ctx);
    }
    void backward(std::span<const float>, std::span<float> dy) override { notch::straight_through(dy, mask_, dy); }

private:
    notch::moving_average seen_;
    buffer<std::uint8_t> mask_;
};

/// One of notch's learned quantizers. Groups()(q, f) shows all that it has learned as trained_groups, with a rate of 0
/// what is not trained here.
template <class Q, class Groups> class learned_activation final : public activation_quantizer {
public:
    /// make(n): the quantizer of n values, as it starts.
    template <class Make> explicit learned_activation(const Make& make) : q_(make(1)), one_(make(1)) {
        make_ = [make](index_t n) { return make(n); };
    }
    void forward(std::span<const float> x, activation& y, bool training, const notch::context& ctx) override {
        y.quantized = true;
        y.codes.resize_discard(y.size());
        if (!training) {
            const float zero[1] = {0.0f};
            copy(q_, one_);
            one_.forward(zero, ctx); // its params() are those of the values learned by now
            const notch::quant_params p = one_.params()[0];
            shifted(y, p, [&](auto codes) { notch::quantize<typename Q::range>(x, p, codes, ctx); });
            return;
        }
        if (q_.layout().size() != y.size()) {
            Q next = make_(y.size());
            copy(q_, next);
            q_ = std::move(next);
        }
        q_.forward(x, ctx);
        shifted(y, q_.params()[0], [&](auto codes) { std::copy(q_.codes().begin(), q_.codes().end(), codes.begin()); });
    }
    void backward(std::span<const float> x, std::span<float> dy) override {
        const auto dx = q_.backward(x, dy);
        std::copy(dx.begin(), dx.end(), dy.begin());
    }
    void parameters(const group_visitor& f) override {
        Groups()(q_, [&](const trained_group& g) {
            if (g.rate > 0.0f) f(g);
        });
    }

private:
    static void copy(Q& from, Q& to) {
        std::vector<std::span<float>> values;
        Groups()(from, [&](const trained_group& g) { values.push_back(g.value); });
        std::size_t at = 0;
        Groups()(to, [&](const trained_group& g) {
            std::copy(values[at].begin(), values[at].end(), g.value.begin());
            ++at;
        });
    }
    /// Fills the codes of y, which are unsigned: signed ones are moved up, and the zero point with them.
    template <class Fill> void shifted(activation& y, notch::quant_params p, const Fill& fill) {
        if constexpr (std::is_same_v<typename Q::code_type, std::uint8_t>) {
            fill(y.codes.span());
            y.params = p;
        } else {
            signed_.resize_discard(y.size());
            fill(signed_.span());
            constexpr int up = -Q::range::qmin;
            for (index_t i = 0; i < y.size(); ++i) y.codes[i] = static_cast<std::uint8_t>(signed_[i] + up);
            y.params = {p.scale, p.zero_point + up};
        }
    }
    Q q_, one_; ///< of the last training batch; of one value
    std::function<Q(index_t)> make_;
    buffer<std::int8_t> signed_;
};

/// What is trained of each quantizer.
struct lsq_groups {
    template <class Q> void operator()(Q& q, const group_visitor& f) const {
        f({"log_step", q.log_step(), q.log_step_gradient(), false, step_rate});
        f({"offset", q.offset(), q.offset_gradient(), false, 0.0f});
    }
};
struct lsq_plus_groups {
    template <class Q> void operator()(Q& q, const group_visitor& f) const {
        f({"log_step", q.log_step(), q.log_step_gradient(), false, step_rate});
        f({"offset", q.offset(), q.offset_gradient(), false, 1.0f});
    }
};
struct range_groups {
    template <class Q> void operator()(Q& q, const group_visitor& f) const {
        f({"min", q.min(), q.min_gradient(), false, step_rate});
        f({"max", q.max(), q.max_gradient(), false, step_rate});
    }
};
struct clip_groups {
    template <class Q> void operator()(Q& q, const group_visitor& f) const {
        f({"log_clip", q.log_clip(), q.log_clip_gradient(), false, step_rate});
    }
};
struct threshold_groups {
    template <class Q> void operator()(Q& q, const group_visitor& f) const {
        f({"log2_threshold", q.log2_threshold(), q.log2_threshold_gradient(), false, threshold_rate});
    }
};

/// The rules by which training quantizes activations.
enum class activation_rule { straight, lsq, lsq_plus, pact, threshold, range };

/// Fixed parameters by a clip method, from what an observer saw.
inline std::unique_ptr<activation_quantizer> fix_activation(int bits, const notch::histogram& seen,
                                                            const notch::clip& how) {
    return with_bits(bits, [&](auto constant) -> std::unique_ptr<activation_quantizer> {
        constexpr int width = decltype(constant)::value;
        return std::make_unique<fixed_activation<width>>(notch::calibrate<notch::affine<width>>(seen, how));
    });
}

/// A quantizer for training, which starts from what an observer saw. PACT is for values >= 0; others are left to
/// straight-through min-max.
inline std::unique_ptr<activation_quantizer> make_activation(activation_rule rule, int bits,
                                                             const notch::histogram& seen) {
    const notch::real_range range = seen.range();
    const bool positive = range.min >= 0.0f;
    return with_bits(bits, [&](auto constant) -> std::unique_ptr<activation_quantizer> {
        constexpr int width = decltype(constant)::value;
        using codes = notch::affine<width>;
        const auto learned =
            [&]<class Q, class Groups>(std::type_identity<Q>, Groups,
                                       notch::quant_params start) -> std::unique_ptr<activation_quantizer> {
            return std::make_unique<learned_activation<Q, Groups>>([start](index_t n) {
                Q q({n});
                q.initialize(std::span<const notch::quant_params>(&start, 1));
                return q;
            });
        };
        switch (rule) {
        case activation_rule::lsq: {
            // Unsigned behind a ReLU, else signed: the zero point is the first code or the one in the middle.
            using symmetric = notch::symmetric_full<width>;
            const notch::quant_params start =
                positive ? notch::calibrate<codes>(seen, notch::clip::error())
                         : notch::quant_params{notch::calibrate<symmetric>(seen, notch::clip::error()).scale,
                                               -symmetric::qmin};
            return learned(std::type_identity<notch::learned_affine<codes>>(), lsq_groups(), start);
        }
        case activation_rule::lsq_plus:
            return learned(std::type_identity<notch::learned_affine<codes>>(), lsq_plus_groups(),
                           notch::calibrate<codes>(seen, notch::clip::error()));
        case activation_rule::range:
            return learned(std::type_identity<notch::learned_range<codes>>(), range_groups(),
                           notch::calibrate<codes>(seen, notch::clip::min_max()));
        case activation_rule::threshold:
            if (positive)
                return learned(std::type_identity<notch::learned_threshold<codes>>(), threshold_groups(),
                               notch::calibrate<codes>(seen, notch::clip::error()));
            return learned(std::type_identity<notch::learned_threshold<notch::symmetric_full<width>>>(),
                           threshold_groups(),
                           notch::calibrate<notch::symmetric_full<width>>(seen, notch::clip::error()));
        case activation_rule::pact:
            if (positive && range.max > 0.0f) {
                const float alpha = range.max;
                return std::make_unique<learned_activation<notch::learned_clip<codes>, clip_groups>>(
                    [alpha](index_t n) { return notch::learned_clip<codes>({n}, alpha); });
            }
            [[fallthrough]];
        case activation_rule::straight: break;
        }
        return std::make_unique<straight_activation<width>>(range);
    });
}

} // namespace ablation
