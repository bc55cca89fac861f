// SPDX-License-Identifier: Apache-2.0
//
// notch/layers/activation.hpp: what flows between layers, and the activation functions that are
// fused into them.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>

#include <notch/core/buffer.hpp>
#include <notch/core/view.hpp>
#include <notch/kernels/epilogue.hpp>
#include <notch/kernels/quantize.hpp>

NOTCH_NAMESPACE_BEGIN

/// An activation function, applied by the epilogue of the layer before it.
enum class nonlinearity : std::int32_t { none, relu, relu6 };

/// How a training layer computes.
enum class phase {
    fp32,      ///< float arithmetic
    calibrate, ///< float arithmetic, the observers watch the outputs
    quantized, ///< on the integer kernels: the codes of the frozen network
    dynamic,   ///< integer weights, inputs quantized image by image at run time, float outputs
};

/// A batch of images n x h x w x c, dense. quantized: codes and params are valid, else values.
struct activation {
    index_t n = 0, h = 0, w = 0, c = 0;
    buffer<float> values;
    buffer<std::uint8_t> codes;
    quant_params params;
    bool quantized = false;

    NOTCH_INLINE_SPECIAL_MEMBERS(activation);
    /// Unchecked: beyond the range of index_t modulo 2^64. Every call that takes an activation checks its extents.
    [[nodiscard]] NOTCH_INLINE index_t size() const noexcept {
        return static_cast<index_t>(static_cast<std::size_t>(pixels()) * static_cast<std::size_t>(c));
    }
    [[nodiscard]] NOTCH_INLINE index_t pixels() const noexcept {
        return static_cast<index_t>(static_cast<std::size_t>(n) * static_cast<std::size_t>(h) *
                                    static_cast<std::size_t>(w));
    }
    NOTCH_INLINE void reshape(index_t n_, index_t h_, index_t w_, index_t c_) noexcept {
        n = n_;
        h = h_;
        w = w_;
        c = c_;
    }
    [[nodiscard]] NOTCH_INLINE nhwc_view<const std::uint8_t> code_view() const noexcept {
        return {codes.data(), n, h, w, c};
    }
    [[nodiscard]] NOTCH_INLINE nhwc_view<std::uint8_t> code_view() noexcept { return {codes.data(), n, h, w, c}; }
    [[nodiscard]] NOTCH_INLINE nhwc_view<float> value_view() noexcept { return {values.data(), n, h, w, c}; }
    [[nodiscard]] NOTCH_INLINE nhwc_view<const float> value_view() const noexcept {
        return {values.data(), n, h, w, c};
    }
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN

namespace detail {

/// The extents of an activation: none negative, and their product is an index.
inline index_t checked_size(const char* where, index_t n, index_t h, index_t w, index_t c) {
    for (index_t extent : {n, h, w, c}) {
        check_extent(where, "an extent of an activation", extent);
        check_view_extent(where, "an activation", extent);
    }
    return checked_product(where, checked_product(where, n, h), checked_product(where, w, c));
}
/// The memory that an activation says it has is there.
inline void check_activation(const char* where, const activation& a) {
    (void)checked_size(where, a.n, a.h, a.w, a.c);
    check_equal(where, a.quantized ? "the number of codes of x" : "the number of values of x",
                a.quantized ? a.codes.size() : a.values.size(), a.size());
}

inline void check_phase(const char* where, phase p) {
    if (p < phase::fp32 || p > phase::dynamic)
        fail(errc::invalid_argument,
             cat(where, ": the phase is ", static_cast<int>(p), ", not one of the enumeration"));
}

/// The parameters of an output whose range an observer has seen.
inline quant_params observed_params(const char* where, real_range range) {
    if (range.empty())
        fail(errc::invalid_argument,
             cat(where, ": the range of the output was never observed; run phase::calibrate first"));
    return params_from_range<affine<8>>(range);
}
/// The parameters of an output: the fixed ones if there are any, else those of the range that an observer has seen.
inline quant_params output_params_of(const char* where, const std::optional<quant_params>& fixed, real_range seen) {
    if (!fixed) return observed_params(where, seen);
    check_params(where, "fixed_params", *fixed, 0, 255);
    return *fixed;
}
/// Gives the output its shape. It must not be an input: that would change while it is read.
inline void shape_output(const char* where, activation& y, std::initializer_list<const activation*> inputs, index_t n,
                         index_t h, index_t w, index_t c) {
    for (const activation* x : inputs)
        if (x == &y) fail(errc::invalid_argument, cat(where, ": y must not be an input of the same call"));
    (void)checked_size(where, n, h, w, c);
    y.reshape(n, h, w, c);
}

} // namespace detail

/// The real values of an activation: its values, or its codes dequantized into scratch.
[[nodiscard]] inline std::span<const float> real_values(const activation& a, buffer<float>& scratch,
                                                        const context& ctx) {
    detail::check_activation("real_values", a);
    if (!a.quantized) return a.values;
    scratch.resize_discard(a.size());
    dequantize<std::uint8_t>(a.codes, a.params, scratch, ctx);
    return scratch;
}

/// Makes a a batch of codes with given parameters, from its real values: the input of a network. After an error a is
/// as it was.
inline void quantize_input(activation& a, quant_params params, const context& ctx = {}) {
    constexpr const char* where = "quantize_input";
    detail::check_equal(where, "the number of values", a.values.size(),
                        detail::checked_size(where, a.n, a.h, a.w, a.c));
    detail::check_params(where, "params", params, 0, 255);
    a.codes.resize_discard(a.size());
    quantize<affine<8>>(a.values, params, a.codes, ctx);
    a.params = params;
    a.quantized = true;
}

namespace detail {

/// The real bounds of a nonlinearity.
[[nodiscard]] inline float lower_bound(nonlinearity f) noexcept {
    return f == nonlinearity::none ? -std::numeric_limits<float>::infinity() : 0.0f;
}
[[nodiscard]] inline float upper_bound(nonlinearity f) noexcept {
    return f == nonlinearity::relu6 ? 6.0f : std::numeric_limits<float>::infinity();
}

/// make_epilogue with the stage of a nonlinearity.
template <class Packed, class... Stages>
[[nodiscard]] auto epilogue_with(nonlinearity f, const Packed& w, const Stages&... stages) {
    switch (f) {
    case nonlinearity::relu: return make_epilogue(w, stages..., stage::relu{});
    case nonlinearity::relu6: return make_epilogue(w, stages..., stage::relu6{});
    case nonlinearity::none: break;
    }
    return make_epilogue(w, stages...);
}

} // namespace detail
NOTCH_KEYED_END
