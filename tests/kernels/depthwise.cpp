// SPDX-License-Identifier: Apache-2.0
//
// Depthwise convolution on every instruction set against ref::depthwise, bit for bit: randomized
// and named shapes, paddings larger than the kernel, channels that fill registers in every way,
// channel multipliers, s8 inputs, all outputs, extreme codes; buffers end at pages without access.
#include "../catch.hpp"
#include "../guard_page.hpp"
#include "team.hpp"

#include <cmath>
#include <cstdint>
#include <random>
#include <type_traits>
#include <vector>

#include <notch/kernels/depthwise.hpp>
#include <notch/ref/conv.hpp>
#include <notch/scheme/half.hpp>
#include <notch/simd/cpu.hpp>

using namespace notch;

namespace {

struct shape {
    window s;
    index_t n = 1, h = 1, w = 1, c = 1, multiplier = 1;
    bool extreme = false;
    index_t threads = 1, gap = 0; ///< gap: bytes between the channels of neighbouring pixels
};

/// The y scale decides which output stage may be used: all proofs hold, none of words, none at all.
enum class reach { small, large, huge };

template <class Code> void check(std::mt19937& g, const shape& t, isa i, reach r) {
    const window& s = t.s;
    const index_t oh = s.out_h(t.h), ow = s.out_w(t.w), out = t.c * t.multiplier, taps = s.kernel_h * s.kernel_w;
    const index_t pixel = t.c + t.gap, size = t.n * oh * ow * out;
    INFO(to_string(i) << " n" << t.n << " " << t.h << "x" << t.w << "x" << t.c << "*" << t.multiplier << " kernel "
                      << s.kernel_h << "x" << s.kernel_w << " stride " << s.stride_h << s.stride_w << " dilation "
                      << s.dilation_h << s.dilation_w << " pad " << s.pad_top << s.pad_left << s.pad_bottom
                      << s.pad_right << " signed " << std::is_signed_v<Code> << " reach " << static_cast<int>(r));
    const auto side = g() % 2 ? guard::after : guard::before;
    const guarded<Code> x(random_codes<Code>(g, static_cast<std::size_t>(t.n * t.h * t.w * pixel - t.gap),
                                             std::numeric_limits<Code>::min(), std::numeric_limits<Code>::max(),
                                             t.extreme),
                          side);
    const auto w = random_codes<std::int8_t>(g, static_cast<std::size_t>(taps * out), -128, 127, t.extreme);
    std::vector<std::int32_t> bias(static_cast<std::size_t>(out));
    for (auto& b : bias) b = static_cast<std::int32_t>(g() % 20001) - 10000;
    const index_t low = std::numeric_limits<Code>::min();
    const quant_params xp{0.02f, static_cast<std::int32_t>(low + static_cast<index_t>(g() % 256))};
    const nhwc_view<const Code> xv(x.data(), t.n, t.h, t.w, t.c, t.h * t.w * pixel, t.w * pixel, pixel);
    std::vector<std::int32_t> acc(static_cast<std::size_t>(size));
    ref::depthwise<Code>(xv, xp.zero_point, w, s, bias, {acc.data(), t.n, oh, ow, out});

    const packed_depthwise p = pack_depthwise(w, t.c, s, t.multiplier);
    const thread_team team{t.threads};
    const guarded<std::byte> memory(depthwise_workspace_size(p, t.n, t.h, t.w));
    context ctx(i, team, memory.span());
    const auto run = [&]<class T>(std::type_identity<T>, auto expected, const auto&... stages) {
        const guarded<T> y(size, side);
        const auto ep = [&] {
            if constexpr (std::is_signed_v<Code>)
                return make_epilogue(p, stages..., stage::s8_input{});
            else
                return make_epilogue(p, stages...);
        }();
        depthwise(xv, p, ep, nhwc_view<T>(y.data(), t.n, oh, ow, out), ctx);
        index_t wrong = 0;
        for (std::size_t k = 0; k < acc.size(); ++k)
            wrong += !(y[k] == static_cast<T>(expected(acc[k], k % static_cast<std::size_t>(out))));
        CHECK(wrong == 0);
    };
    std::vector<float> ws(static_cast<std::size_t>(out));
    for (float& v : ws) v = 1e-4f * static_cast<float>(1 + g() % 1000);
    const float y_scale = r == reach::small ? 0.3f * static_cast<float>(taps) : r == reach::large ? 1e-4f : 1e-10f;
    const quant_params yp{y_scale, static_cast<std::int32_t>(g() % 256)}, sp{y_scale, yp.zero_point - 128};
    const auto m = [&](std::size_t c) {
        return static_cast<float>(static_cast<double>(xp.scale) * static_cast<double>(ws[c]) /
                                  static_cast<double>(y_scale));
    };
    const auto six = static_cast<std::int32_t>(std::min(1000.0, std::nearbyint(6.0 / static_cast<double>(y_scale))));
    using u8 = std::uint8_t;
    using s8 = std::int8_t;
    run(
        std::type_identity<std::int32_t>{}, [](std::int32_t a, std::size_t) { return a; }, stage::bias{bias},
        stage::accumulators{xp.zero_point});
    run(
        std::type_identity<u8>{},
        [&](std::int32_t a, std::size_t c) {
            return requantize_float(a, m(c), yp.zero_point, {0, 255});
        },
        stage::bias{bias}, stage::requantize{xp, ws, yp});
    run(
        std::type_identity<u8>{},
        [&](std::int32_t a, std::size_t c) {
            return requantize_float(a, m(c), yp.zero_point, {yp.zero_point, std::min(255, yp.zero_point + six)});
        },
        stage::bias{bias}, stage::requantize{xp, ws, yp}, stage::relu6{});
    run(
        std::type_identity<s8>{},
        [&](std::int32_t a, std::size_t c) {
            return requantize_float(a, m(c), sp.zero_point, {-128, 127});
        },
        stage::bias{bias}, stage::requantize<affine_signed<8>>{xp, ws, sp});
    run(
        std::type_identity<s8>{},
        [&](std::int32_t a, std::size_t c) {
            return requantize_float(a, m(c), sp.zero_point, {sp.zero_point, 127});
        },
        stage::bias{bias}, stage::requantize<affine_signed<8>>{xp, ws, sp}, stage::relu{});
    const auto real = [&](std::int32_t a, std::size_t c) {
        return static_cast<float>(a) * static_cast<float>(static_cast<double>(xp.scale) * static_cast<double>(ws[c]));
    };
    run(
        std::type_identity<float>{}, [&](std::int32_t a, std::size_t c) { return std::max(real(a, c), 0.0f); },
        stage::bias{bias}, stage::dequantize{xp, ws}, stage::relu{});
    if (r == reach::small) {
        const auto fixed = [&](std::size_t c) {
            return to_fixed_multiplier(static_cast<double>(xp.scale) * static_cast<double>(ws[c]) /
                                       static_cast<double>(y_scale));
        };
        run(
            std::type_identity<u8>{},
            [&](std::int32_t a, std::size_t c) {
                return requantize_fixed_double(a, fixed(c), yp.zero_point, {0, 255});
            },
            stage::bias{bias}, stage::requantize_fixed{xp, ws, yp});
    }
}

void check_any(std::mt19937& g, const shape& t, isa i, int trial) {
    if (t.s.out_h(t.h) <= 0 || t.s.out_w(t.w) <= 0) return;
    const auto r = trial % 5 == 3 ? reach::large : trial % 5 == 4 ? reach::huge : reach::small;
    if (trial % 3 == 0)
        check<std::int8_t>(g, t, i, r);
    else
        check<std::uint8_t>(g, t, i, r);
}

} // namespace

TEST_CASE("depthwise equals the reference for any geometry, on every instruction set") {
    std::mt19937 g(11);
    for (isa i : available_isas())
        for (int trial = 0; trial < 220; ++trial) {
            shape t;
            t.s.kernel_h = 1 + g() % 6;
            t.s.kernel_w = 1 + g() % 6;
            t.s.stride_h = 1 + g() % 3;
            t.s.stride_w = 1 + g() % 3;
            t.s.dilation_h = 1 + g() % 2;
            t.s.dilation_w = 1 + g() % 2;
            if (trial % 2) { // the kernels of 3 x 3
                t.s.kernel_h = t.s.kernel_w = 3;
                t.s.stride_w = 1 + g() % 2;
                t.s.stride_h = g() % 4 ? t.s.stride_w : 1 + g() % 3;
                t.s.dilation_h = g() % 6 ? 1 : 2;
                t.s.dilation_w = 1;
            }
            t.s.pad_top = g() % 5;
            t.s.pad_left = g() % 5;
            t.s.pad_bottom = g() % 5;
            t.s.pad_right = g() % 5;
            t.n = 1 + g() % 3;
            t.h = 1 + g() % 17;
            t.w = 1 + g() % 17;
            t.multiplier = g() % 5 ? 1 : 2 + g() % 8;
            t.c = t.multiplier > 1 ? 1 + g() % 20 : 1 + g() % 130;
            t.extreme = g() % 4 == 0;
            t.threads = 1 + g() % 3;
            t.gap = g() % 3 ? 0 : 3;
            check_any(g, t, i, trial);
        }
}

TEST_CASE("depthwise 3 x 3 and 5 x 5 with every number of channels and small widths") {
    std::mt19937 g(12);
    for (isa i : available_isas()) {
        int trial = 0;
        for (index_t c = 1; c <= 130; ++c)
            for (index_t stride : {1, 2}) check_any(g, {window::square(3, stride, 1), 1, 5, 4 + c % 5, c}, i, trial++);
        for (index_t w = 1; w <= 17; ++w)
            for (index_t c : {16, 32, 40, 64, 96, 144})
                for (index_t stride : {1, 2}) {
                    check_any(g, {window::square(3, stride, 1), 1, 3, w, c}, i, trial++);
                    check_any(g, {window::square(5, stride, 2), 1, 3, w, c}, i, trial++);
                }
    }
}

TEST_CASE("depthwise of the MobileNetV2 layers", "[slow]") {
    std::mt19937 g(13);
    struct layer {
        index_t side, channels, stride;
    };
    for (isa i : available_isas())
        for (const layer& l : {layer{112, 32, 1},
                               {112, 96, 2},
                               {56, 144, 1},
                               {56, 144, 2},
                               {28, 192, 1},
                               {28, 192, 2},
                               {14, 384, 1},
                               {14, 576, 1},
                               {14, 576, 2},
                               {7, 960, 1}}) {
            if (i == isa::scalar && l.side > 28) continue; // the same code at smaller sizes above
            shape t{window::square(3, l.stride, 1), 1, l.side, l.side, l.channels};
            t.threads = 2;
            check<std::uint8_t>(g, t, i, reach::small);
        }
}

TEST_CASE("depthwise: extreme codes and weights of one sign, where 16 bits would saturate") {
    for (isa i : available_isas())
        for (int weight : {-128, 127})
            for (index_t stride : {1, 2})
                for (index_t c : {5, 16, 64, 70}) {
                    const window s = window::square(3, stride, 1);
                    const std::vector<std::int8_t> w(static_cast<std::size_t>(9 * c), static_cast<std::int8_t>(weight));
                    const std::vector<std::uint8_t> x(static_cast<std::size_t>(36 * c), 255);
                    const packed_depthwise p = pack_depthwise(w, c, s);
                    const index_t o = s.out_h(6);
                    std::vector<std::int32_t> y(static_cast<std::size_t>(o * o * c));
                    depthwise(nhwc_view<const std::uint8_t>(x.data(), 1, 6, 6, c), p,
                              make_epilogue(p, stage::accumulators{0}), nhwc_view<std::int32_t>(y.data(), 1, o, o, c),
                              context(i));
                    const auto inner = static_cast<std::size_t>((o + 1) * c); // (1, 1) has all nine taps inside
                    for (std::size_t k = 0; k < static_cast<std::size_t>(c); ++k) {
                        CHECK(y[inner + k] == 9 * 255 * weight);
                        CHECK(y[k] == 4 * 255 * weight); // the corner has four
                    }
                }
}

TEST_CASE("depthwise: on_tile sees each row of results once, finished, for any number of threads") {
    std::mt19937 g(14);
    for (isa i : available_isas())
        for (index_t threads : {1, 2, 7})
            for (index_t stride : {1, 2}) {
                const index_t n = 2, h = 9, w = 7, c = 83;
                const window s = window::square(3, stride, 1);
                const index_t oh = s.out_h(h), ow = s.out_w(w);
                const auto x = random_codes<std::uint8_t>(g, static_cast<std::size_t>(n * h * w * c));
                const auto weights = random_codes<std::int8_t>(g, static_cast<std::size_t>(9 * c));
                const packed_depthwise p = pack_depthwise(weights, c, s);
                const thread_team team{threads};
                const context ctx(i, team);
                std::vector<std::int32_t> plain(static_cast<std::size_t>(n * oh * ow * c)), seen(plain.size()),
                    y(plain.size());
                const nhwc_view<const std::uint8_t> xv(x.data(), n, h, w, c);
                ref::depthwise<std::uint8_t>(xv, 9, weights, s, {}, {plain.data(), n, oh, ow, c});
                const auto ep = make_epilogue(p, stage::accumulators{9}, stage::on_tile{[&](tile<std::int32_t> t) {
                                                  for (index_t r = 0; r < t.rows; ++r)
                                                      for (index_t k = 0; k < t.cols; ++k) {
                                                          const auto at =
                                                              static_cast<std::size_t>((t.row + r) * c + t.col + k);
                                                          seen[at] += t(r, k) == plain[at] ? 1 : 100;
                                                          t(r, k) += 1;
                                                      }
                                              }});
                depthwise(xv, p, ep, nhwc_view<std::int32_t>(y.data(), n, oh, ow, c), ctx);
                index_t wrong = 0;
                for (std::size_t k = 0; k < y.size(); ++k) wrong += seen[k] != 1 || y[k] != plain[k] + 1;
                CHECK(wrong == 0);
            }
}

TEST_CASE("depthwise: codes far beyond their range saturate, near the limits of 16 bits too") {
    // One channel block of the largest products, scaled so that codes before the clamp lie around 2^15.
    const index_t c = 64;
    const std::vector<std::uint8_t> x(static_cast<std::size_t>(25 * c), 255);
    for (int weight : {-127, 127})
        for (float reach : {31900.0f, 32100.0f, 32700.0f, 33000.0f, 33400.0f, 40000.0f, 66000.0f})
            for (std::int32_t zero : {0, 128, 255}) {
                const std::vector<std::int8_t> w(static_cast<std::size_t>(9 * c), static_cast<std::int8_t>(weight));
                const packed_depthwise p = pack_depthwise(w, c, window::square(3));
                const std::vector<float> scale{reach / (9.0f * 255.0f * 127.0f)};
                for (isa i : available_isas()) {
                    INFO(to_string(i) << " " << weight << " " << reach << " " << zero);
                    std::vector<std::uint8_t> y(static_cast<std::size_t>(9 * c), 7);
                    depthwise(nhwc_view<const std::uint8_t>(x.data(), 1, 5, 5, c), p,
                              make_epilogue(p, stage::requantize{{1.0f, 0}, scale, {1.0f, zero}}),
                              nhwc_view<std::uint8_t>(y.data(), 1, 3, 3, c), context(i));
                    CHECK(y == std::vector<std::uint8_t>(y.size(), weight > 0 ? 255 : 0));
                }
            }
}
