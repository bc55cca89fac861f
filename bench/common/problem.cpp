// SPDX-License-Identifier: Apache-2.0
#include "problem.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include <notch/ref/add.hpp>
#include <notch/ref/conv.hpp>
#include <notch/ref/gemm.hpp>
#include <notch/ref/pool.hpp>
#include <notch/ref/quantize.hpp>
#include <notch/scheme/requantize.hpp>

namespace bench {
namespace {

constexpr std::string_view names[] = {"gemm",          "conv2d",   "depthwise",  "max_pool",
                                      "average_pool",  "quantize", "dequantize", "requantize",
                                      "fake_quantize", "add",      "value_range"};

/// A small generator with a fixed sequence, so that every process measures the same data.
struct generator {
    std::uint64_t state;
    std::uint32_t operator()() {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        return static_cast<std::uint32_t>(state >> 33);
    }
    int between(int lo, int hi) { return lo + static_cast<int>((*this)() % static_cast<std::uint32_t>(hi - lo + 1)); }
};

} // namespace

std::string_view to_string(operation op) { return names[static_cast<std::size_t>(op)]; }

bool parse(std::string_view name, operation& op) {
    const auto* found = std::find(std::begin(names), std::end(names), name);
    if (found == std::end(names)) return false;
    op = static_cast<operation>(found - std::begin(names));
    return true;
}

long problem::outputs() const {
    switch (op) {
    case operation::gemm: return n;
    case operation::conv2d: return out;
    case operation::depthwise:
    case operation::max_pool:
    case operation::average_pool: return channels;
    case operation::requantize: return requantize_columns;
    default: return 1;
    }
}

long problem::depth() const {
    switch (op) {
    case operation::gemm: return k;
    case operation::conv2d: return kernel * kernel * channels;
    case operation::depthwise:
    case operation::max_pool:
    case operation::average_pool: return kernel * kernel;
    default: return 1;
    }
}

long problem::rows() const {
    switch (op) {
    case operation::gemm: return m;
    case operation::conv2d:
    case operation::depthwise:
    case operation::max_pool:
    case operation::average_pool: return out_h() * out_w();
    case operation::requantize: return size / requantize_columns;
    default: return size;
    }
}

double problem::operations() const {
    if (elementwise()) return static_cast<double>(size);
    return (has_weights() ? 2.0 : 1.0) * static_cast<double>(rows()) * static_cast<double>(outputs()) *
           static_cast<double>(depth());
}

double problem::bytes() const {
    const double n_elements = static_cast<double>(size);
    if (op == operation::fake_quantize) return n_elements * 10; // f32 in; f32, code and mask out
    if (op == operation::add) return n_elements * 3;
    if (op == operation::value_range) return n_elements * 4;
    return elementwise() ? n_elements * 5 : 0;
}

std::string problem::shape() const {
    char text[128];
    if (op == operation::gemm)
        std::snprintf(text, sizeof text, "%ldx%ldx%ld", m, n, k);
    else if (op == operation::conv2d)
        std::snprintf(text, sizeof text, "%ldx%ldx%ld_k%lds%ldp%ld_to%ld", h, w, channels, kernel, stride, pad, out);
    else if (!elementwise())
        std::snprintf(text, sizeof text, "%ldx%ldx%ld_k%lds%ldp%ld", h, w, channels, kernel, stride, pad);
    else
        std::snprintf(text, sizeof text, "%ld", size);
    std::string all = text;
    if (x_zero_point != 0 || y_zero_point != 0) all += "_zp";
    if (weight_bits == 7) all += "_w7";
    return all;
}

std::string parse_shape(std::string_view text, problem& p) {
    std::string s(text);
    auto ends = [&](std::string_view suffix) {
        if (s.size() < suffix.size() || s.compare(s.size() - suffix.size(), suffix.size(), suffix) != 0) return false;
        s.resize(s.size() - suffix.size());
        return true;
    };
    if (ends("_w7")) p.weight_bits = 7;
    if (ends("_zp")) p.x_zero_point = 113, p.y_zero_point = 7;
    int used = 0;
    const auto whole = [&](int fields, int wanted) {
        return fields == wanted && static_cast<std::size_t>(used) == s.size();
    };
    bool good = false;
    const char* form = "a number of elements";
    if (p.op == operation::gemm) {
        form = "MxNxK";
        good = whole(std::sscanf(s.c_str(), "%ldx%ldx%ld%n", &p.m, &p.n, &p.k, &used), 3);
    } else if (p.op == operation::conv2d) {
        form = "HxWxC_kKERNELsSTRIDEpPAD_toOUT";
        good = whole(std::sscanf(s.c_str(), "%ldx%ldx%ld_k%lds%ldp%ld_to%ld%n", &p.h, &p.w, &p.channels, &p.kernel,
                                 &p.stride, &p.pad, &p.out, &used),
                     7);
    } else if (!p.elementwise()) {
        form = "HxWxC_kKERNELsSTRIDEpPAD";
        good = whole(std::sscanf(s.c_str(), "%ldx%ldx%ld_k%lds%ldp%ld%n", &p.h, &p.w, &p.channels, &p.kernel, &p.stride,
                                 &p.pad, &used),
                     6);
        p.out = p.channels;
    } else {
        good = whole(std::sscanf(s.c_str(), "%ld%n", &p.size, &used), 1);
    }
    constexpr long most = 1 << 20;
    for (long e : {p.m, p.n, p.k, p.h, p.w, p.channels, p.out, p.kernel, p.stride}) good = good && e >= 1 && e <= most;
    good = good && p.pad >= 0 && p.pad <= most && p.size >= 0 && p.size <= (1L << 32);
    if (good && !p.elementwise() && p.op != operation::gemm)
        good = p.h + 2 * p.pad >= p.kernel && p.w + 2 * p.pad >= p.kernel;
    if (good && p.op == operation::requantize && p.size % problem::requantize_columns != 0)
        return "the size of requantize must be a multiple of " + std::to_string(problem::requantize_columns);
    if (good) return {};
    return "the shape of " + std::string(to_string(p.op)) + " is " + form + " (then _zp, _w7), not '" +
           std::string(text) + "'";
}

workload::workload(const problem& problem) : p(problem) {
    generator g{static_cast<std::uint64_t>(p.rows() * 7919 + p.outputs() * 131 + p.depth())};
    const auto count = [](long a, long b) { return static_cast<std::size_t>(a) * static_cast<std::size_t>(b); };
    if (p.elementwise()) {
        if (p.op == operation::dequantize || p.op == operation::add)
            x.resize(count(p.size, 1));
        else if (p.op == operation::requantize)
            acc.resize(count(p.size, 1));
        else
            real.resize(count(p.size, 1));
        for (std::uint8_t& v : x) v = static_cast<std::uint8_t>(g());
        if (p.op == operation::add) other.resize(x.size());
        for (std::uint8_t& v : other) v = static_cast<std::uint8_t>(g());
        for (std::int32_t& v : acc) v = g.between(-20000, 20000);
        for (float& v : real) v = static_cast<float>(g.between(-3500, 3500)) * 0.001f; // some are clipped
    } else {
        x.resize(p.op == operation::gemm ? count(p.m, p.k) : count(p.h * p.w, p.channels));
        if (p.has_weights()) w.resize(count(p.outputs(), p.depth()));
        const int top = p.weight_bits == 7 ? 63 : 127;
        for (std::uint8_t& v : x) v = static_cast<std::uint8_t>(g());
        for (std::int8_t& v : w) v = static_cast<std::int8_t>(g.between(-top, top));
        if (p.has_weights()) bias.resize(count(p.outputs(), 1));
        for (std::int32_t& v : bias) v = g.between(-2000, 2000);
    }
    // About 40 codes for one standard deviation of a sum: all codes occur, few are clipped at 255.
    const double spread = p.op == operation::requantize
                              ? 11500.0
                              : std::sqrt(static_cast<double>(p.depth())) * 147.0 * (p.weight_bits == 7 ? 36.7 : 73.6);
    for (long c = 0; c < p.outputs(); ++c) {
        const double m = 40.0 / spread * (0.75 + 0.5 * static_cast<double>(c % 17) / 16.0);
        w_scales.push_back(static_cast<float>(m * static_cast<double>(y_scale) / static_cast<double>(x_scale)));
    }
}

float workload::multiplier(long c) const {
    return static_cast<float>(static_cast<double>(x_scale) *
                              static_cast<double>(w_scales[static_cast<std::size_t>(c)]) /
                              static_cast<double>(y_scale));
}

expected::expected(const workload& w) {
    const problem& p = w.p;
    const notch::code_range u8{0, 255};
    const notch::quant_params x_q{w.x_scale, p.x_zero_point};
    std::vector<std::int32_t> sums;
    if (p.op == operation::quantize || p.op == operation::fake_quantize) {
        for (float v : w.real) {
            const std::int32_t code = notch::ref::quantize(v, x_q, u8);
            codes.push_back(static_cast<std::uint8_t>(code));
            if (p.op == operation::fake_quantize) values.push_back(notch::ref::dequantize(code, x_q));
        }
        return;
    }
    if (p.op == operation::dequantize) {
        for (std::uint8_t v : w.x) values.push_back(notch::ref::dequantize(v, x_q));
        return;
    }
    const notch::quant_params y_q{w.y_scale, p.y_zero_point};
    if (p.op == operation::add) {
        codes.resize(w.x.size());
        notch::ref::add<std::uint8_t>(w.x, w.other, notch::make_add(x_q, x_q, y_q), codes);
        return;
    }
    if (p.op == operation::value_range) {
        const auto [least, most] = std::minmax_element(w.real.begin(), w.real.end());
        if (!w.real.empty()) values = {*least, *most};
        return;
    }
    if (p.op == operation::max_pool || p.op == operation::average_pool) {
        const notch::nhwc_view<const std::uint8_t> in(w.x.data(), 1, p.h, p.w, p.channels);
        codes.resize(static_cast<std::size_t>(p.rows() * p.outputs()));
        const notch::nhwc_view<std::uint8_t> to(codes.data(), 1, p.out_h(), p.out_w(), p.channels);
        const auto window = notch::window::square(p.kernel, p.stride, p.pad);
        if (p.op == operation::max_pool)
            notch::ref::max_pool<std::uint8_t>(in, window, to);
        else
            notch::ref::average_pool<std::uint8_t>(in, x_q, window, y_q, u8, to);
        return;
    }
    if (p.op == operation::requantize)
        sums = w.acc;
    else
        sums.resize(static_cast<std::size_t>(p.rows() * p.outputs()));
    if (p.op == operation::gemm) {
        notch::ref::gemm<std::uint8_t>({w.x.data(), p.m, p.k}, p.x_zero_point, {w.w.data(), p.n, p.k}, w.bias,
                                       {sums.data(), p.m, p.n});
    } else if (p.op == operation::conv2d || p.op == operation::depthwise) {
        const notch::nhwc_view<const std::uint8_t> in(w.x.data(), 1, p.h, p.w, p.channels);
        const notch::nhwc_view<std::int32_t> to(sums.data(), 1, p.out_h(), p.out_w(), p.outputs());
        const auto window = notch::window::square(p.kernel, p.stride, p.pad);
        if (p.op == operation::conv2d)
            notch::ref::conv2d<std::uint8_t>(in, p.x_zero_point, w.w, window, w.bias, to);
        else
            notch::ref::depthwise<std::uint8_t>(in, p.x_zero_point, w.w, window, w.bias, to);
    }
    for (std::size_t i = 0; i < sums.size(); ++i) {
        const float m = w.multiplier(static_cast<long>(i) % p.outputs());
        codes.push_back(static_cast<std::uint8_t>(notch::requantize_float(sums[i], m, p.y_zero_point, u8)));
        values.push_back(static_cast<float>(sums[i]));
    }
}

agreement compare(const output& got, const expected& want, const workload& w) {
    agreement a;
    const auto size_fault = [&](std::size_t n, std::size_t wanted) {
        if (n == wanted) return false;
        a.count += static_cast<long>(wanted);
        a.differ = a.beyond = a.count;
        a.largest = 255;
        return true;
    };
    if (!got.codes.empty()) {
        if (size_fault(got.codes.size(), want.codes.size())) return a;
        for (std::size_t i = 0; i < want.codes.size(); ++i) {
            const int d = std::abs(static_cast<int>(got.codes[i]) - static_cast<int>(want.codes[i]));
            a.differ += d > 0;
            a.beyond += d > 1;
            a.largest = std::max(a.largest, d);
        }
        a.count += static_cast<long>(want.codes.size());
    }
    if (!got.values.empty() || got.codes.empty()) {
        if (size_fault(got.values.size(), want.values.size())) return a;
        // float sums are rounded in every step; others are one multiplication away from exact
        const double slack = w.p.elementwise() ? static_cast<double>(w.x_scale) * 1e-4
                                               : 1e-5 * static_cast<double>(w.p.depth()) * 147.0 * 73.6;
        for (std::size_t i = 0; i < want.values.size(); ++i) {
            const double d = std::fabs(static_cast<double>(got.values[i]) - static_cast<double>(want.values[i]));
            a.differ += !(d <= slack);
            a.beyond += !(d <= slack);
        }
        a.count += static_cast<long>(want.values.size());
    }
    return a;
}

} // namespace bench
