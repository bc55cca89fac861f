// SPDX-License-Identifier: Apache-2.0
//
// Epilogues away from the middle of the road: bounds that contradict or miss the range, multipliers
// that overflow, fixed point and int8 outputs of convolutions, functors on images, masks.
#include "../catch.hpp"

#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <thread>
#include <type_traits>
#include <vector>

#include <notch/kernels/add.hpp>
#include <notch/kernels/conv.hpp>
#include <notch/kernels/depthwise.hpp>
#include <notch/kernels/gemm.hpp>
#include <notch/kernels/quantize.hpp>
#include <notch/ref/conv.hpp>
#include <notch/ref/gemm.hpp>
#include <notch/ref/pool.hpp>
#include <notch/scheme/requantize.hpp>

using namespace notch;

namespace {

struct pair_of_threads {
    [[nodiscard]] index_t concurrency() const { return 2; }
    void run(index_t n, task_ref task) const {
        std::thread other([=] {
            for (index_t i = 1; i < n; i += 2) task(i);
        });
        for (index_t i = 0; i < n; i += 2) task(i);
        other.join();
    }
};

template <class T> std::vector<T> random_codes(std::mt19937& g, index_t n) {
    std::vector<T> v(static_cast<std::size_t>(n));
    for (T& x : v) x = static_cast<T>(g());
    return v;
}
float multiplier(quant_params x, float w, quant_params y) {
    return static_cast<float>(static_cast<double>(x.scale) * static_cast<double>(w) / static_cast<double>(y.scale));
}
template <class T> index_t differences(const std::vector<T>& a, const std::vector<T>& b) {
    REQUIRE(a.size() == b.size());
    index_t n = 0;
    for (std::size_t i = 0; i < a.size(); ++i) n += a[i] != b[i];
    return n;
}

struct random_product {
    index_t m = 7, n = 37, k = 30;
    std::vector<std::uint8_t> x;
    std::vector<std::int8_t> w;
    std::vector<std::int32_t> acc; ///< without bias, zero point 11
    packed_weights packed;
    explicit random_product(unsigned seed) {
        std::mt19937 g(seed);
        x = random_codes<std::uint8_t>(g, m * k);
        w = random_codes<std::int8_t>(g, n * k);
        acc.resize(static_cast<std::size_t>(m * n));
        ref::gemm<std::uint8_t>({x.data(), m, k}, 11, {w.data(), n, k}, {}, {acc.data(), m, n});
        packed = pack({w.data(), n, k});
    }
    template <class Out, class F> std::vector<Out> run(const epilogue<Out, F>& ep, isa i) const {
        std::vector<Out> y(acc.size());
        gemm(matrix_view<const std::uint8_t>(x.data(), m, k), packed, ep, matrix_view<Out>(y.data(), m, n), context(i));
        return y;
    }
};

} // namespace

// A functor that throws ends the program at once: nothing passes through the tasks of an executor.
static_assert(std::is_nothrow_invocable_v<decltype(epilogue_args::on_tile), void*, const tile_args&>);

TEST_CASE("bounds in real units become bounds of codes, for both kinds of codes") {
    const random_product p(1);
    const std::vector<float> ws{0.02f};
    const quant_params x{0.05f, 11};
    for (float lo : {-100.0f, -1.0f, 0.0f, 0.24f, 500.0f})
        for (float hi : {-1.0f, 0.26f, 3.0f, 6.0f, 1e30f}) {
            if (lo > hi) continue;
            for (std::int32_t zero : {0, 3, 128, 255}) {
                const quant_params y{0.5f, zero}, z{0.5f, zero - 128};
                const auto bound = [&](float b, quant_params q, int least) {
                    const double code = std::nearbyint(static_cast<double>(b) / 0.5) + q.zero_point;
                    return static_cast<std::int32_t>(
                        std::clamp(code, static_cast<double>(least), static_cast<double>(least + 255)));
                };
                std::vector<std::uint8_t> want(p.acc.size());
                std::vector<std::int8_t> want_signed(p.acc.size());
                for (std::size_t j = 0; j < want.size(); ++j) {
                    want[j] = static_cast<std::uint8_t>(
                        requantize_float(p.acc[j], multiplier(x, ws[0], y), zero, {bound(lo, y, 0), bound(hi, y, 0)}));
                    want_signed[j] = static_cast<std::int8_t>(requantize_float(
                        p.acc[j], multiplier(x, ws[0], z), zero - 128, {bound(lo, z, -128), bound(hi, z, -128)}));
                }
                for (isa i : available_isas()) {
                    INFO(to_string(i) << " clamp " << lo << " " << hi << " zero " << zero);
                    CHECK(differences(
                              p.run(make_epilogue(p.packed, stage::requantize{x, ws, y}, stage::clamp{lo, hi}), i),
                              want) == 0);
                    CHECK(differences(p.run(make_epilogue(p.packed, stage::requantize<affine_signed<8>>{x, ws, z},
                                                          stage::clamp{lo, hi}),
                                            i),
                                      want_signed) == 0);
                }
            }
        }
}

TEST_CASE("bounds that contradict each other are refused, or mean the same on every instruction set") {
    const random_product p(2);
    const std::vector<float> ws{0.02f};
    const quant_params x{0.05f, 11}, y{0.5f, 128};
    const auto agree = [&](auto... stages) {
        try {
            const auto ep = make_epilogue(p.packed, stage::requantize{x, ws, y}, stages...);
            const auto first = p.run(ep, isa::scalar);
            for (isa i : available_isas()) {
                INFO(to_string(i));
                CHECK(differences(p.run(ep, i), first) == 0);
            }
        } catch (const error& e) {
            CHECK(e.code() == errc::invalid_argument);
        }
    };
    agree(stage::clamp{-9.0f, -4.0f}, stage::relu{});
    agree(stage::clamp{7.0f, 20.0f}, stage::relu6{});
    agree(stage::clamp{1.0f, 2.0f}, stage::clamp{5.0f, 6.0f});
}

TEST_CASE("multipliers from the smallest to the largest float") {
    const random_product p(3);
    for (float s : {1e-38f, 1e-20f, 1e-6f, 1.0f, 1e4f, 1e7f, 1e10f, 1e30f, 3e38f})
        for (std::int32_t zero : {0, 200}) {
            const std::vector<float> ws{1.0f};
            const quant_params x{s, 11}, y{1.0f, zero};
            std::vector<std::uint8_t> want(p.acc.size());
            for (std::size_t j = 0; j < want.size(); ++j)
                want[j] = static_cast<std::uint8_t>(requantize_float(p.acc[j], s, zero, {0, 255}));
            for (isa i : available_isas()) {
                INFO(to_string(i) << " multiplier " << s);
                CHECK(differences(p.run(make_epilogue(p.packed, stage::requantize{x, ws, y}), i), want) == 0);
            }
        }
}

TEST_CASE("an accumulator at the very edge of int32 is accepted and exact") {
    const std::vector<std::int8_t> w{1};
    const packed_weights packed = pack({w.data(), 1, 1});
    const std::vector<std::uint8_t> x{0, 255};
    const std::int32_t top = std::numeric_limits<std::int32_t>::max() - 255;
    for (isa i : available_isas())
        for (std::int32_t b : {top, -std::numeric_limits<std::int32_t>::max()}) {
            const std::vector<std::int32_t> bias{b};
            std::vector<std::int32_t> y(2);
            gemm(matrix_view<const std::uint8_t>(x.data(), 2, 1), packed,
                 make_epilogue(packed, stage::bias{bias}, stage::accumulators{}),
                 matrix_view<std::int32_t>(y.data(), 2, 1), context(i));
            CHECK(y[0] == b);
            CHECK(y[1] == b + 255);
        }
    CHECK_THROWS_WITH(make_epilogue(packed, stage::bias{std::vector<std::int32_t>{top + 1}}, stage::accumulators{}),
                      contains_text("output channel 0"));
}

TEST_CASE("requantize: the mask says where the gradient passes, in every mode") {
    const random_product p(4);
    const std::vector<float> ws{0.004f};
    const quant_params x{0.5f, 11}, y{1.0f, 100};
    const matrix_view<const std::int32_t> acc(p.acc.data(), p.m, p.n);
    for (isa i : available_isas()) {
        std::vector<std::uint8_t> codes(p.acc.size()), mask(p.acc.size(), 7), want(p.acc.size());
        const auto check = [&](const auto& ep, auto passes, const char* what) {
            requantize(acc, ep, matrix_view<std::uint8_t>(codes.data(), p.m, p.n), mask, context(i));
            for (std::size_t j = 0; j < want.size(); ++j) want[j] = passes(p.acc[j]);
            INFO(to_string(i) << " " << what);
            CHECK(differences(mask, want) == 0);
        };
        const float m = multiplier(x, ws[0], y);
        const auto steps = [&](std::int32_t a) { return std::nearbyint(static_cast<float>(a) * m) + 100.0f; };
        check(
            make_epilogue(p.packed, stage::requantize{x, ws, y}),
            [&](std::int32_t a) { return steps(a) >= 0.0f && steps(a) <= 255.0f; }, "plain");
        check(
            make_epilogue(p.packed, stage::requantize{x, ws, y}, stage::relu6{}),
            [&](std::int32_t a) { return a > 0 && steps(a) <= 106.0f; }, "relu6");
        check(
            make_epilogue(p.packed, stage::requantize{x, ws, y}, stage::clamp{-4.0f, 9.0f}),
            [&](std::int32_t a) { return steps(a) >= 96.0f && steps(a) <= 109.0f; }, "clamp");
        const fixed_multiplier f = to_fixed_multiplier(static_cast<double>(x.scale) * static_cast<double>(ws[0]));
        const code_range all{-1000000, 1000000};
        check(
            make_epilogue(p.packed, stage::requantize_fixed{x, ws, y}),
            [&](std::int32_t a) {
                const std::int32_t code = requantize_fixed_double(a, f, 100, all);
                return code >= 0 && code <= 255;
            },
            "fixed point");
    }
}

TEST_CASE("codes of the double rounding beside its ties, of all shifts and sizes of accumulators") {
    std::mt19937 g(17);
    const index_t n = 85, m = 7; // whole vectors and a rest; four rows and single ones
    std::vector<std::uint8_t> x(static_cast<std::size_t>(m * n));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<std::uint8_t>(i / static_cast<std::size_t>(n));
    std::vector<std::uint8_t> column(static_cast<std::size_t>(m));
    for (std::size_t i = 0; i < column.size(); ++i) column[i] = static_cast<std::uint8_t>(i);
    const std::vector<std::int8_t> ones(static_cast<std::size_t>(n), 1);
    const packed_weights packed = pack({ones.data(), n, 1});
    std::vector<std::int32_t> zero_points; // of the weights: the sums of the rows correct the accumulators
    for (index_t c = 0; c < n; ++c) zero_points.push_back(static_cast<std::int32_t>(c % 5) - 2);
    const packed_weights offset = pack(matrix_view<const std::int8_t>(ones.data(), n, 1), zero_points);
    const packed_depthwise filters = pack_depthwise(ones, n, window::square(1));
    for (int trial = 0; trial < 24; ++trial) {
        // Few steps round where no shift is to the left and all accumulators are below 2^30: the others are beside
        // them.
        const int kind = trial % 4;
        const std::int32_t largest = (1 << 30) - 300;
        std::vector<float> ws;
        std::vector<std::int32_t> bias;
        for (index_t c = 0; c < n; ++c) {
            int e = static_cast<int>(g() % 32);
            if (kind == 1 && c == n - 1) e = -(trial % 3); // a shift of 0, 1 or 2
            if (kind == 2 && c == n - 1) e = 33;           // a multiplier of 0
            double scale = std::ldexp(0.5 + static_cast<double>(g() % 1000000) / 2e6, -e);
            if (trial % 3 == 2) scale = std::ldexp(0.5, -e); // every second product is a tie itself
            ws.push_back(static_cast<float>(scale));
            const double tie = static_cast<double>(static_cast<int>(g() % 281) - 140) + 0.5;
            const double v = std::floor(tie / static_cast<double>(ws.back()));
            bias.push_back(static_cast<std::int32_t>(std::max(-double{largest}, std::min(double{largest}, v))) - 3);
        }
        if (kind == 3) bias[static_cast<std::size_t>(n - 1)] = trial % 8 == 3 ? 2147483647 - 255 : -2147483647;
        const quant_params u8{1.0f, static_cast<std::int32_t>(g() % 256)}, s8{1.0f, u8.zero_point - 128};
        const auto check = [&](auto code, quant_params yp, auto range, auto clamp, code_range r) {
            using code_type = decltype(code);
            std::vector<code_type> want(x.size()), want_offset(x.size()), y(x.size());
            for (std::size_t i = 0; i < x.size(); ++i) {
                const std::size_t c = i % static_cast<std::size_t>(n);
                const auto code_of = [&](std::int32_t v) {
                    return static_cast<code_type>(
                        requantize_fixed_double(v, to_fixed_multiplier(static_cast<double>(ws[c])), yp.zero_point, r));
                };
                want[i] = code_of(bias[c] + x[i]);
                want_offset[i] = code_of(bias[c] + x[i] * (1 - zero_points[c]));
            }
            const stage::requantize_fixed<decltype(range)> fixed{{1.0f, 0}, ws, yp};
            for (isa i : available_isas()) {
                INFO(to_string(i) << " kind " << kind << " zero point " << yp.zero_point);
                gemm(matrix_view<const std::uint8_t>(column.data(), m, 1), packed,
                     make_epilogue(packed, stage::bias{bias}, fixed, clamp), matrix_view<code_type>(y.data(), m, n),
                     context(i));
                CHECK(differences(y, want) == 0);
                if (kind != 3) { // whose sums leave no room
                    gemm(matrix_view<const std::uint8_t>(column.data(), m, 1), offset,
                         make_epilogue(offset, stage::bias{bias}, fixed, clamp), matrix_view<code_type>(y.data(), m, n),
                         context(i));
                    CHECK(differences(y, want_offset) == 0);
                }
                if constexpr (sizeof(code_type) == 1) {
                    std::fill(y.begin(), y.end(), code_type{});
                    depthwise(nhwc_view<const std::uint8_t>(x.data(), 1, 1, m, n), filters,
                              make_epilogue(filters, stage::bias{bias}, fixed, clamp),
                              nhwc_view<code_type>(y.data(), 1, 1, m, n), context(i));
                    CHECK(differences(y, want) == 0);
                }
            }
        };
        constexpr float inf = std::numeric_limits<float>::infinity();
        check(std::uint8_t{}, u8, affine<8>{}, stage::clamp{-inf, inf}, {0, 255});
        check(std::int8_t{}, s8, affine_signed<8>{}, stage::clamp{-inf, inf}, {-128, 127});
        check(std::int16_t{}, {1.0f, 77}, affine_signed<16>{}, stage::clamp{-inf, inf}, {-32768, 32767});
        const code_range middle{std::max(-128, s8.zero_point - 20), std::min(127, s8.zero_point + 9)};
        check(std::int8_t{}, s8, affine_signed<8>{}, stage::clamp{-20.0f, 9.0f}, middle);
    }
}

TEST_CASE("convolutions with every kind of output, and functors that know where they are") {
    std::mt19937 g(5);
    for (isa i : available_isas())
        for (int trial = 0; trial < 12; ++trial) {
            window s = window::square(1 + static_cast<index_t>(g() % 3), 1 + static_cast<index_t>(g() % 2),
                                      static_cast<index_t>(g() % 2));
            s.pad_bottom += trial % 3;
            const index_t n = 1 + trial % 3, h = 5, w = 6, c = trial % 2 ? 3 : 70, out = 21, oh = s.out_h(h),
                          ow = s.out_w(w);
            const auto x = random_codes<std::uint8_t>(g, n * h * w * c);
            const nhwc_view<const std::uint8_t> xv(x.data(), n, h, w, c);
            const quant_params xp{0.03f, static_cast<std::int32_t>(g() % 256)},
                yp{0.7f, static_cast<std::int32_t>(g() % 256) - 128};
            const pair_of_threads two;
            context ctx(i, two);
            const auto check = [&](const auto& packed, index_t channels, const std::vector<std::int32_t>& acc,
                                   index_t workspace, auto run) {
                std::vector<std::byte> memory(static_cast<std::size_t>(workspace));
                ctx.workspace = memory;
                std::vector<float> ws(static_cast<std::size_t>(channels));
                for (float& v : ws) v = 1e-3f * static_cast<float>(1 + g() % 100);
                const auto scale = [&](std::size_t j) { return ws[j % static_cast<std::size_t>(channels)]; };
                std::vector<std::int8_t> y(acc.size()), want(acc.size());
                const auto view = [&](auto& v) { return nhwc_view(v.data(), n, oh, ow, channels); };
                INFO(to_string(i) << " c " << c << " kernel " << s.kernel_h << " stride " << s.stride_h);
                for (std::size_t j = 0; j < acc.size(); ++j)
                    want[j] = static_cast<std::int8_t>(
                        requantize_float(acc[j], multiplier(xp, scale(j), yp), yp.zero_point, {-128, 127}));
                run(make_epilogue(packed, stage::requantize<affine_signed<8>>{xp, ws, yp}), view(y));
                CHECK(differences(y, want) == 0);
                const auto fixed = [&](std::size_t j) {
                    return to_fixed_multiplier(static_cast<double>(xp.scale) * static_cast<double>(scale(j)) /
                                               static_cast<double>(yp.scale));
                };
                for (std::size_t j = 0; j < acc.size(); ++j)
                    want[j] =
                        static_cast<std::int8_t>(requantize_fixed_double(acc[j], fixed(j), yp.zero_point, {-128, 127}));
                run(make_epilogue(packed, stage::requantize_fixed<affine_signed<8>>{xp, ws, yp}), view(y));
                CHECK(differences(y, want) == 0);
                for (std::size_t j = 0; j < acc.size(); ++j)
                    want[j] =
                        static_cast<std::int8_t>(requantize_fixed_single(acc[j], fixed(j), yp.zero_point, {-128, 127}));
                run(make_epilogue(packed,
                                  stage::requantize_fixed<affine_signed<8>>{xp, ws, yp,
                                                                            requant_mode::fixed_point_single_rounding}),
                    view(y));
                CHECK(differences(y, want) == 0);
                const quant_params tiny{1e-12f, yp.zero_point};
                for (std::size_t j = 0; j < acc.size(); ++j)
                    want[j] = static_cast<std::int8_t>(
                        requantize_float(acc[j], multiplier(xp, scale(j), tiny), yp.zero_point, {-128, 127}));
                run(make_epilogue(packed, stage::requantize<affine_signed<8>>{xp, ws, tiny}), view(y));
                CHECK(differences(y, want) == 0);
                std::vector<std::int32_t> s32(acc.size()), seen(acc.size());
                run(make_epilogue(packed, stage::accumulators{xp.zero_point}, stage::on_tile{[&](tile<std::int32_t> t) {
                                      for (index_t r = 0; r < t.rows; ++r)
                                          for (index_t k = 0; k < t.cols; ++k) {
                                              const auto at =
                                                  static_cast<std::size_t>((t.row + r) * channels + t.col + k);
                                              seen[at] += t(r, k) == acc[at] ? 1 : 100;
                                              t(r, k) += 5;
                                          }
                                  }}),
                    view(s32));
                for (std::size_t j = 0; j < acc.size(); ++j) {
                    REQUIRE(seen[j] == 1);
                    REQUIRE(s32[j] == acc[j] + 5);
                }
            };
            std::vector<std::int32_t> acc(static_cast<std::size_t>(n * oh * ow * out)),
                deep(static_cast<std::size_t>(n * oh * ow * c));
            const auto weights = random_codes<std::int8_t>(g, out * s.kernel_h * s.kernel_w * c);
            ref::conv2d<std::uint8_t>(xv, xp.zero_point, weights, s, {}, {acc.data(), n, oh, ow, out});
            const packed_weights p = pack_conv2d(weights, out, c, s);
            check(p, out, acc, conv2d_workspace_size(p, n, h, w, ctx),
                  [&](const auto& ep, auto y) { conv2d(xv, p, ep, y, ctx); });
            const auto filter = std::span(weights).first(static_cast<std::size_t>(s.kernel_h * s.kernel_w * c));
            ref::depthwise<std::uint8_t>(xv, xp.zero_point, filter, s, {}, {deep.data(), n, oh, ow, c});
            const packed_depthwise d = pack_depthwise(filter, c, s);
            check(d, c, deep, depthwise_workspace_size(d, n, h, w, ctx),
                  [&](const auto& ep, auto y) { depthwise(xv, d, ep, y, ctx); });
        }
}

TEST_CASE("the overflow proof holds at both ends of int32, to the last bias") {
    // The accumulator of one weight lies in bias + [0, 255 w] for w > 0 and bias + [255 w, 0] for w < 0.
    constexpr std::int32_t most = std::numeric_limits<std::int32_t>::max();
    for (const int w : {127, -128}) {
        const std::int8_t weight = static_cast<std::int8_t>(w);
        const auto packed = pack({&weight, 1, 1});
        const std::int32_t last = w > 0 ? most - 255 * w : -most - 255 * w;
        const auto make = [&](std::int32_t bias) {
            (void)make_epilogue(packed, stage::bias{{&bias, 1}}, stage::accumulators{0});
        };
        INFO("weight " << w);
        CHECK_NOTHROW(make(last));
        CHECK_THROWS_AS(make(w > 0 ? last + 1 : last - 1), error);
    }
}

TEST_CASE("multipliers of add and average are the correctly rounded ones") {
    // a / y = 2/3: 2/3 * 2^15 = 21845.33; b / y = 1/6: 5461.33; with 5/6: 27306.67, rounded up.
    const add_params p = make_add({5.0f, 0}, {1.0f, 0}, {6.0f, 0});
    CHECK(p.ma == 27307);
    CHECK(p.mb == 5461);
    CHECK(p.multiplier == 1.0f / 32768.0f);
    // b = 11/12 of y: 30037.33; a = 7/12: 19114.67.
    const add_params q = make_add({7.0f, 0}, {11.0f, 0}, {12.0f, 0});
    CHECK(q.ma == 19115);
    CHECK(q.mb == 30037);

    // In extended precision the quotient has bits enough for the one rounding to float.
    index_t float_differs = 0;
    for (index_t taps = 1; taps <= 100; ++taps) {
        const float x = 0.1f, y = 0.3f;
        const long double exact =
            static_cast<long double>(x) / (static_cast<long double>(y) * static_cast<long double>(taps));
        CHECK(ref::average_multiplier(x, y, taps) == static_cast<float>(exact));
        float_differs += x / (y * static_cast<float>(taps)) != static_cast<float>(exact);
    }
    CHECK(float_differs > 0); // so this test can fail
}
