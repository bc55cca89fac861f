// SPDX-License-Identifier: Apache-2.0
//
// notch/layers/pool.hpp: the layers without weights: max pooling, global average pooling, residual
// add; forward in every phase, backward in fp32. In phase::quantized they run on the integer
// kernels.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>

#include <notch/kernels/add.hpp>
#include <notch/kernels/epilogue_plan.hpp>
#include <notch/kernels/pool.hpp>
#include <notch/layers/activation.hpp>
#include <notch/observe/moving_average.hpp>

NOTCH_KEYED_BEGIN

/// Maximum over windows. The gradient goes to the first maximum of each window. Not thread-safe.
class max_pool_layer {
public:
    explicit max_pool_layer(const window& s) : geometry_(s) { detail::check_window("max_pool_layer", s); }

    void forward(const activation& x, activation& y, phase p, bool training, const context& ctx) {
        detail::check_phase("max_pool_layer", p);
        detail::check_activation("max_pool_layer", x);
        if (x.quantized != (p == phase::quantized))
            fail(errc::invalid_argument, "max_pool_layer: x has codes where values are needed, or the reverse");
        detail::shape_output("max_pool_layer", y, {&x}, x.n, geometry_.out_h(x.h), geometry_.out_w(x.w), x.c);
        y.quantized = p == phase::quantized;
        if (training) {
            from_.resize_discard(y.size());
            x_size_ = x.size();
        }
        const index_t need = pool_workspace_size(geometry_, x.h, x.w, ctx);
        if (workspace_.size() < need) workspace_ = buffer<std::byte>(need);
        context inner = ctx;
        inner.workspace = workspace_;
        if (y.quantized) {
            y.params = x.params;
            y.codes.resize_discard(y.size());
            max_pool(x.code_view(), geometry_, y.code_view(), inner);
            if (training) choose(x.codes.data(), x, y, y.codes.data());
        } else {
            y.values.resize_discard(y.size());
            max_pool(x.value_view(), geometry_, y.value_view(), inner);
            if (training) choose(x.values.data(), x, y, y.values.data());
        }
    }
    void backward(std::span<const float> dy, std::span<float> dx) const {
        if (from_.empty() && !dy.empty())
            fail(errc::invalid_argument, "max_pool_layer: backward needs a forward with training = true before it");
        detail::check_equal("max_pool_layer.backward", "the size of dy", static_cast<index_t>(dy.size()), from_.size());
        detail::check_equal("max_pool_layer.backward", "the size of dx", static_cast<index_t>(dx.size()), x_size_);
        std::fill(dx.begin(), dx.end(), 0.0f);
        for (index_t i = 0; i < from_.size(); ++i)
            if (from_[i] >= 0) dx[static_cast<std::size_t>(from_[i])] += dy[static_cast<std::size_t>(i)];
    }
    [[nodiscard]] const window& geometry() const noexcept { return geometry_; }

private:
    /// The maximum of each window that has a tap, and where it stands in x; -1 for a window without.
    template <class T> void choose(const T* data, const activation& x, const activation& y, T* largest) {
        const window& s = geometry_;
        index_t* from = from_.data();
        for (index_t n = 0; n < y.n; ++n)
            for (index_t oy = 0; oy < y.h; ++oy)
                for (index_t ox = 0; ox < y.w; ++ox, from += y.c, largest += y.c) {
                    std::fill_n(from, y.c, index_t{-1});
                    bool first = true;
                    for (index_t ky = 0; ky < s.kernel_h; ++ky) {
                        const index_t iy = oy * s.stride_h - s.pad_top + ky * s.dilation_h;
                        if (iy < 0 || iy >= x.h) continue;
                        for (index_t kx = 0; kx < s.kernel_w; ++kx) {
                            const index_t ix = ox * s.stride_w - s.pad_left + kx * s.dilation_w;
                            if (ix < 0 || ix >= x.w) continue;
                            const index_t at = ((n * x.h + iy) * x.w + ix) * x.c;
                            for (index_t c = 0; c < x.c; ++c) {
                                const T v = data[at + c];
                                const bool larger = first || v > largest[c];
                                largest[c] = larger ? v : largest[c];
                                from[c] = larger ? at + c : from[c];
                            }
                            first = false;
                        }
                    }
                }
    }
    window geometry_;
    buffer<index_t> from_;
    index_t x_size_ = 0;
    buffer<std::byte> workspace_;
};

/// Mean over all pixels of an image, which has at least one. Not thread-safe.
class global_average_layer {
public:
    explicit global_average_layer(float range_momentum = 0.9f) : output_observer(range_momentum) {}
    moving_average output_observer;
    std::optional<quant_params> fixed_params; ///< if set, instead of the observer's, which then sees nothing

    void forward(const activation& x, activation& y, phase p, bool training, const context& ctx) {
        detail::check_phase("global_average_layer", p);
        detail::check_activation("global_average_layer", x);
        if (p == phase::quantized && !x.quantized)
            fail(errc::invalid_argument, "global_average_layer: quantized arithmetic needs an input with codes");
        if (x.h == 0 || x.w == 0)
            fail(errc::invalid_argument,
                 detail::cat("global_average_layer: x has images of ", x.h, " x ", x.w, " pixels, which have no mean"));
        detail::shape_output("global_average_layer", y, {&x}, x.n, 1, 1, x.c);
        pixels_ = x.h * x.w;
        y.quantized = p == phase::quantized;
        if (y.quantized && !training) {
            integer_mean(x, y, ctx);
            return;
        }
        const std::span<const float> real = real_values(x, scratch_, ctx);
        mean_.resize_discard(y.size());
        std::fill(mean_.begin(), mean_.end(), 0.0f);
        for (index_t n = 0; n < x.n; ++n)
            for (index_t i = 0; i < pixels_; ++i)
                for (index_t c = 0; c < x.c; ++c)
                    mean_[n * x.c + c] += real[static_cast<std::size_t>((n * pixels_ + i) * x.c + c)];
        for (float& v : mean_) v /= static_cast<float>(pixels_);
        if ((p == phase::calibrate || y.quantized) && !fixed_params) output_observer.observe(mean_);
        if (y.quantized)
            integer_mean(x, y, ctx);
        else
            y.values = mean_;
    }
    void backward(std::span<const float> dy, std::span<float> dx, index_t channels) const {
        detail::check_extent("global_average_layer.backward", "channels", channels);
        if (pixels_ == 0) fail(errc::invalid_argument, "global_average_layer: backward needs a forward before it");
        detail::check_equal("global_average_layer.backward", "the size of dx", static_cast<index_t>(dx.size()),
                            static_cast<index_t>(dy.size()) * pixels_);
        if (dx.empty()) return;
        if (channels == 0 || static_cast<index_t>(dy.size()) % channels != 0)
            fail(errc::shape_mismatch, detail::cat("global_average_layer.backward: dy has ", dy.size(), " values for ",
                                                   channels, " channels"));
        const auto step = static_cast<std::size_t>(channels);
        const float share = 1.0f / static_cast<float>(pixels_);
        float* to = dx.data();
        for (std::size_t image = 0; image < dy.size(); image += step)
            for (index_t p = 0; p < pixels_; ++p, to += step)
                for (std::size_t c = 0; c < step; ++c) to[c] = share * dy[image + c];
    }
    [[nodiscard]] quant_params output_params() const {
        return detail::output_params_of("global_average_layer", fixed_params, output_observer.range());
    }

private:
    void integer_mean(const activation& x, activation& y, const context& ctx) {
        y.params = output_params();
        y.codes.resize_discard(y.size());
        const window s = global_window(x.h, x.w);
        const index_t need = pool_workspace_size(s, ctx);
        if (workspace_.size() < need) workspace_ = buffer<std::byte>(need);
        context inner = ctx;
        inner.workspace = workspace_;
        average_pool(x.code_view(), x.params, s, y.params, y.code_view(), inner);
    }
    index_t pixels_ = 0; ///< of the last forward's images; 0 before any
    buffer<float> scratch_, mean_;
    buffer<std::byte> workspace_;
};

/// y = f(a + b), elementwise. The gradient goes to both unchanged where the sum was not clipped. Not thread-safe.
class add_layer {
public:
    explicit add_layer(float range_momentum = 0.9f) : output_observer(range_momentum) {}
    /// f: such as the relu behind the residual of a ResNet; in integers it costs nothing.
    explicit add_layer(nonlinearity f, float range_momentum = 0.9f) : output_observer(range_momentum), function_(f) {
        if (f < nonlinearity::none || f > nonlinearity::relu6)
            fail(errc::invalid_argument,
                 detail::cat("add_layer: the nonlinearity is ", static_cast<int>(f), ", not one of the enumeration"));
    }
    moving_average output_observer;
    std::optional<quant_params> fixed_params; ///< if set, instead of the observer's, which then sees nothing

    void forward(const activation& a, const activation& b, activation& y, phase p, bool training, const context& ctx) {
        if (a.n != b.n || a.h != b.h || a.w != b.w || a.c != b.c)
            fail(errc::shape_mismatch, "add_layer: a and b have different shapes");
        detail::check_phase("add_layer", p);
        detail::check_activation("add_layer", a);
        detail::check_activation("add_layer", b);
        if (p == phase::quantized && !(a.quantized && b.quantized))
            fail(errc::invalid_argument, "add_layer: quantized arithmetic needs inputs with codes");
        detail::shape_output("add_layer", y, {&a, &b}, a.n, a.h, a.w, a.c);
        y.quantized = p == phase::quantized;
        const float lo = detail::lower_bound(function_), hi = detail::upper_bound(function_);
        if (training) mask_.resize_discard(y.size());
        if (!y.quantized || training) {
            const std::span<const float> ra = real_values(a, a_, ctx), rb = real_values(b, b_, ctx);
            y.values.resize_discard(y.size());
            for (index_t i = 0; i < y.size(); ++i) {
                const float sum = ra[static_cast<std::size_t>(i)] + rb[static_cast<std::size_t>(i)];
                if (training) mask_[i] = function_ == nonlinearity::none || (sum > lo && sum < hi);
                const float above = sum < lo ? lo : sum;
                y.values[i] = above > hi ? hi : above;
            }
            if ((p == phase::calibrate || y.quantized) && !fixed_params) output_observer.observe(y.values);
        }
        if (!y.quantized) return;
        y.params = output_params();
        y.codes.resize_discard(y.size());
        const code_range range{detail::bound_code(lo, y.params, 0, 255), detail::bound_code(hi, y.params, 0, 255)};
        add(a.codes, b.codes, make_add(a.params, b.params, y.params, range), y.codes, ctx);
        for (index_t i = 0; training && i < y.size(); ++i) {
            const float code = std::nearbyint(y.values[i] / y.params.scale) + static_cast<float>(y.params.zero_point);
            mask_[i] = mask_[i] && code >= 0.0f && code <= 255.0f;
        }
    }
    /// dy becomes the gradient of both a and b.
    void backward(std::span<float> dy) const {
        if (mask_.empty() && !dy.empty())
            fail(errc::invalid_argument, "add_layer: backward needs a forward with training = true before it");
        detail::check_equal("add_layer.backward", "the size of dy", static_cast<index_t>(dy.size()), mask_.size());
        for (std::size_t i = 0; i < dy.size(); ++i) dy[i] = mask_[static_cast<index_t>(i)] ? dy[i] : 0.0f;
    }
    [[nodiscard]] quant_params output_params() const {
        return detail::output_params_of("add_layer", fixed_params, output_observer.range());
    }

    [[nodiscard]] nonlinearity function() const noexcept { return function_; }

private:
    nonlinearity function_ = nonlinearity::none;
    buffer<float> a_, b_;
    buffer<std::uint8_t> mask_;
};

NOTCH_KEYED_END
