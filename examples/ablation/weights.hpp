// SPDX-License-Identifier: Apache-2.0
//
// Quantizers of weights that are chosen at run time. notch's are types, one for each method, number of bits and
// granularity, and its layers are templates on them; a program that compares many of them would compile each network
// as many times. any_weights is one type that holds any of them.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <notch/layers/train.hpp>
#include <notch/ptq/calibrate.hpp>
#include <notch/qat/binary_weights.hpp>
#include <notch/qat/dorefa.hpp>
#include <notch/qat/fake_quant.hpp>
#include <notch/qat/learned_step.hpp>
#include <notch/qat/learned_threshold.hpp>
#include <notch/qat/ternary_weights.hpp>

#include "bits.hpp"

namespace ablation {

using notch::index_t;

/// One group of trained values, as the layers show it to the optimizer; rate is a factor of the common rate.
struct trained_group {
    const char* name;
    std::span<float> value, gradient;
    bool decay;
    float rate;
};
using group_visitor = std::function<void(const trained_group&)>;

/// notch::symmetric_quantizer as an interface. scales may be empty: then they are the quantizer's own.
class weight_quantizer {
public:
    weight_quantizer() = default;
    weight_quantizer(const weight_quantizer&) = delete;
    weight_quantizer& operator=(const weight_quantizer&) = delete;
    virtual ~weight_quantizer() = default;
    virtual void forward(std::span<const float> w, std::span<const float> scales, const notch::context& ctx) = 0;
    virtual std::span<const float> backward(std::span<const float> w, std::span<const float> dy) = 0;
    [[nodiscard]] virtual std::span<const notch::quant_params> params() const = 0;
    [[nodiscard]] virtual std::span<const std::int8_t> codes() const = 0;
    [[nodiscard]] virtual std::span<const float> values() const = 0;
    [[nodiscard]] virtual notch::channel_layout layout() const = 0;
    virtual void parameters(const group_visitor&) {}
    /// What the method does to the real weights after each step of the optimizer.
    virtual void after_step(std::span<float>) {}
};

/// Steps are trained as logarithms, which Adam moves by about its rate whatever their size; few steps have to suffice
/// here, so they go faster than weights do.
inline constexpr float step_rate = 5, threshold_rate = 10;

/// Any symmetric_quantizer of notch.
template <notch::symmetric_quantizer Q> class adapted_weights final : public weight_quantizer {
public:
    explicit adapted_weights(Q q) : q_(std::move(q)) {}
    void forward(std::span<const float> w, std::span<const float> scales, const notch::context& ctx) override {
        if (scales.empty())
            q_.forward(w, ctx);
        else
            q_.forward(w, scales, ctx);
    }
    std::span<const float> backward(std::span<const float> w, std::span<const float> dy) override {
        return q_.backward(w, dy);
    }
    [[nodiscard]] std::span<const notch::quant_params> params() const override { return q_.params(); }
    [[nodiscard]] std::span<const std::int8_t> codes() const override { return q_.codes(); }
    [[nodiscard]] std::span<const float> values() const override { return q_.values(); }
    [[nodiscard]] notch::channel_layout layout() const override { return q_.layout(); }
    void parameters(const group_visitor& f) override {
        if constexpr (requires { q_.log_step(); })
            f({"log_step", q_.log_step(), q_.log_step_gradient(), false, step_rate});
        if constexpr (requires { q_.log2_threshold(); })
            f({"log2_threshold", q_.log2_threshold(), q_.log2_threshold_gradient(), false, threshold_rate});
    }
    void after_step(std::span<float> w) override {
        if constexpr (std::is_same_v<Q, notch::binary_connect>) notch::clip_weights(w);
    }

private:
    Q q_;
};

/// Codes that a post-training method has chosen, whatever the weights are.
class given_weights final : public weight_quantizer {
public:
    /// scales: one, or one for each channel of layout; codes in the order of the weights.
    given_weights(const notch::channel_layout& layout, std::span<const std::int8_t> codes,
                  std::span<const float> scales)
        : layout_(scales.size() == 1 ? notch::channel_layout{1, 1, layout.size()} : layout),
          codes_(codes.begin(), codes.end()), values_(codes.size()) {
        take(scales);
    }
    void forward(std::span<const float>, std::span<const float> scales, const notch::context&) override {
        if (!scales.empty()) take(scales);
    }
    std::span<const float> backward(std::span<const float>, std::span<const float>) override {
        notch::fail(notch::errc::unsupported, "ablation: codes that are given are not trained");
    }
    [[nodiscard]] std::span<const notch::quant_params> params() const override { return params_; }
    [[nodiscard]] std::span<const std::int8_t> codes() const override { return codes_; }
    [[nodiscard]] std::span<const float> values() const override { return values_; }
    [[nodiscard]] notch::channel_layout layout() const override { return layout_; }

private:
    void take(std::span<const float> scales) {
        params_.clear();
        for (float s : scales) params_.push_back({s, 0});
        for (std::size_t i = 0; i < codes_.size(); ++i)
            values_[i] = static_cast<float>(codes_[i]) *
                         params_[static_cast<std::size_t>(layout_.index_of(static_cast<index_t>(i)))].scale;
    }
    notch::channel_layout layout_;
    std::vector<std::int8_t> codes_;
    std::vector<float> values_;
    std::vector<notch::quant_params> params_;
};

/// The layout of weights [out][kh][kw][in] or, depthwise, [kh][kw][channels], by output channel.
inline notch::channel_layout output_channels(std::span<const index_t> extents) {
    return extents.size() == 3 ? notch::layout_of<notch::per_channel<2>>(extents)
                               : notch::layout_of<notch::per_channel<0>>(extents);
}

/// A quantizer for the layers of notch that holds any other. Until use() has given it one it is a fake_quant of 8 bits.
class any_weights {
public:
    using range = notch::symmetric<8>; ///< all codes fit
    using code_type = std::int8_t;

    explicit any_weights(std::initializer_list<index_t> extents)
        : any_weights(std::span<const index_t>(extents.begin(), extents.size())) {}
    explicit any_weights(std::span<const index_t> extents);

    void use(std::unique_ptr<weight_quantizer> q) { held_ = std::move(q); }
    weight_quantizer& operator*() { return *held_; }
    const weight_quantizer& operator*() const { return *held_; }

    void forward(std::span<const float> w, const notch::context& ctx = {}) { held_->forward(w, {}, ctx); }
    void forward(std::span<const float> w, std::span<const float> scales, const notch::context& ctx = {}) {
        held_->forward(w, scales, ctx);
    }
    std::span<const float> backward(std::span<const float> w, std::span<const float> dy) {
        return held_->backward(w, dy);
    }
    [[nodiscard]] std::span<const notch::quant_params> params() const { return held_->params(); }
    [[nodiscard]] std::span<const std::int8_t> codes() const { return held_->codes(); }
    [[nodiscard]] std::span<const float> values() const { return held_->values(); }
    [[nodiscard]] notch::channel_layout layout() const { return held_->layout(); }

private:
    std::unique_ptr<weight_quantizer> held_;
};

/// The rules by which training quantizes weights.
enum class weight_rule { min_max, learned_step, least_error_step, learned_threshold, dorefa, ternary, binary, xnor };

/// bits: 8, 4, 3 or 2, without a meaning for ternary and binary rules. w are the weights from which training starts:
/// least_error_step finds the steps that lose least of them, the others start as their papers do.
inline std::unique_ptr<weight_quantizer> make_weights(weight_rule rule, int bits, const notch::channel_layout& layout,
                                                      std::span<const float> w) {
    const index_t extents[] = {layout.outer, layout.channels, layout.inner};
    const std::span<const index_t> shape(extents);
    using channels = notch::per_channel<1>;
    const auto adapted = [](auto q) -> std::unique_ptr<weight_quantizer> {
        return std::make_unique<adapted_weights<decltype(q)>>(std::move(q));
    };
    switch (rule) {
    case weight_rule::ternary: return adapted(notch::ternary_weights<channels>(shape));
    case weight_rule::binary: return adapted(notch::binary_connect(shape));
    case weight_rule::xnor: return adapted(notch::xnor_weights<channels>(shape));
    default: break;
    }
    return with_bits(bits, [&](auto constant) -> std::unique_ptr<weight_quantizer> {
        constexpr int width = decltype(constant)::value;
        using range = weight_range<width>;
        switch (rule) {
        case weight_rule::learned_step: return adapted(notch::learned_step<range, channels>(shape));
        case weight_rule::learned_threshold: return adapted(notch::learned_threshold<range, channels>(shape));
        case weight_rule::least_error_step: {
            notch::learned_step<range, channels> q(shape);
            std::vector<notch::quant_params> start(static_cast<std::size_t>(layout.count()));
            notch::calibrate<range>(w, layout, notch::clip::error(), start);
            q.initialize(start);
            return adapted(std::move(q));
        }
        case weight_rule::dorefa:
            if constexpr (width <= 7) return adapted(notch::dorefa_weights<width>(shape));
            notch::fail(notch::errc::unsupported, "ablation: dorefa_weights have 2 to 7 bits");
        default: return adapted(notch::fake_quant<range, channels>(shape));
        }
    });
}

inline any_weights::any_weights(std::span<const index_t> extents)
    : held_(make_weights(weight_rule::min_max, 8, output_channels(extents), {})) {}

} // namespace ablation
