// SPDX-License-Identifier: Apache-2.0
//
// DoReFa, ternary and binary weights, the sign as an activation: codes by hand, gradients by finite differences where
// there is a function to differentiate and by the papers' formulas elsewhere, and products by the kernels that the
// codes are for.
#include "../catch.hpp"
#include "values.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include <notch/kernels/lowbit.hpp>
#include <notch/qat/binary_weights.hpp>
#include <notch/qat/dorefa.hpp>
#include <notch/qat/sign_activation.hpp>
#include <notch/qat/ternary_weights.hpp>

using namespace notch;

namespace {

/// values() are those of codes() with params(), and codes() those of the range.
template <class Q> void check_values(const Q& q) {
    using code = typename Q::code_type;
    std::vector<float> values(q.values().size());
    dequantize<code>(q.codes(), q.layout(), q.params(), values);
    CHECK(values == vec(q.values()));
    for (const code c : q.codes()) CHECK((c >= Q::range::qmin && c <= Q::range::qmax));
    for (const quant_params& p : q.params()) CHECK((p.scale >= FLT_MIN && std::isfinite(p.scale) && p.zero_point == 0));
    if (!Q::range::has_zero_point)
        CHECK(std::all_of(q.mask().begin(), q.mask().end(), [](std::uint8_t m) { return m == 1; }));
}
/// Refuses what it cannot do.
template <class Q> void check_refusals(const char* name) {
    const std::vector<float> four(4, 1.0f), three(3, 1.0f);
    Q q({2, 2});
    CHECK_THROWS_WITH(q.backward(four, four), contains_text(detail::cat(name, ".backward needs a forward")));
    CHECK_THROWS_WITH(q.forward(three), contains_text(detail::cat(name, ".forward: the size of x is 3, expected 4")));
    q.forward(four);
    CHECK_THROWS_WITH(q.backward(three, four), contains_text("the size of x is 3, expected 4"));
    CHECK_THROWS_WITH(q.backward(four, three), contains_text("the size of dy is 3, expected 4"));
    if constexpr (symmetric_quantizer<Q>) {
        std::vector<float> scales(q.params().size(), 0.5f);
        q.forward(four, scales);
        check_values(q);
        CHECK(q.params()[0].scale == 0.5f);
        scales[0] = -1.0f;
        CHECK_THROWS_WITH(q.forward(four, scales), contains_text("scales[0] is -1"));
        scales.push_back(1.0f);
        CHECK_THROWS_WITH(q.forward(four, scales), contains_text("the number of scales"));
        q.forward(four);
        CHECK(q.params()[0].scale != 0.5f); // given scales were for one call
    }
    const Q taken = std::move(q);
    CHECK_THROWS_WITH(q.forward(four), contains_text("moved from"));
    Q none({0, 3});
    CHECK(none.forward({}).empty());
    CHECK(none.backward({}, {}).empty());
}

} // namespace

TEST_CASE("dorefa_weights: codes by hand") {
    // tanh(0.2) / tanh(1) = 0.2592: 3 * (0.2592 / 2 + 1 / 2) = 1.889, so 2; 0 is a tie, 1.5, and goes to 2.
    dorefa_weights<2> q({4});
    const std::vector<float> w{1.0f, -1.0f, 0.0f, 0.2f};
    q.forward(w);
    CHECK(vec(q.codes()) == std::vector<std::int8_t>{3, -3, 1, 1});
    CHECK(q.params()[0] == quant_params{1.0f / 3.0f, 0});
    CHECK(q.values()[1] == -1.0f);
    check_values(q);
    // All weights 0, NaN and infinities.
    dorefa_weights<3> odd({3});
    odd.forward(std::vector<float>{0.0f, -0.0f, not_a_number});
    CHECK(vec(odd.codes()) == std::vector<std::int8_t>{1, 1, 1}); // 3.5 goes to 4
    CHECK(vec(odd.backward(std::vector<float>{0.0f, -0.0f, not_a_number}, std::vector<float>{1, 2, 3})) ==
          std::vector<float>{1, 2, 0});
    odd.forward(std::vector<float>{infinity, -infinity, not_a_number});
    CHECK(vec(odd.codes()) == std::vector<std::int8_t>{7, -7, 1});
    static_assert(symmetric_quantizer<dorefa_weights<4>>);
}

TEST_CASE("dorefa_weights: every code is the nearest of the paper's values") {
    const auto w = randoms(1, 500, -2.0f, 1.5f);
    const auto check = [&]<int Bits>(dorefa_weights<Bits> q) {
        q.forward(w);
        check_values(q);
        double m = 0;
        for (float v : w) m = std::max(m, std::fabs(std::tanh(static_cast<double>(v))));
        for (std::size_t i = 0; i < w.size(); ++i) {
            const double u = std::tanh(static_cast<double>(w[i])) / m;
            CHECK(std::fabs(static_cast<double>(q.values()[i]) - u) <= 1.0 / q.steps + 1e-6);
            CHECK(q.codes()[i] % 2 != 0);
        }
    };
    check(dorefa_weights<2>({500}));
    check(dorefa_weights<4>({500}));
    check(dorefa_weights<7>({500}));
}

TEST_CASE("dorefa_weights: the gradient is that of tanh(w) / max|tanh(w)|, the maximum too") {
    auto w = randoms(2, 20, -1.0f, 1.0f);
    w[7] = -1.3f; // the largest
    const auto dy = randoms(3, 20, -1.0f, 1.0f);
    dorefa_weights<4> q({20});
    q.forward(w);
    const auto dw = vec(q.backward(w, dy));
    const auto loss = [&](std::size_t at, double change) {
        double m = 0, sum = 0;
        const auto t = [&](std::size_t i) { return std::tanh(static_cast<double>(w[i]) + (i == at ? change : 0.0)); };
        for (std::size_t i = 0; i < 20; ++i) m = std::max(m, std::fabs(t(i)));
        for (std::size_t i = 0; i < 20; ++i) sum += static_cast<double>(dy[i]) * t(i) / m;
        return sum;
    };
    for (std::size_t i = 0; i < 20; ++i)
        CHECK(static_cast<double>(dw[i]) == Approx((loss(i, 1e-6) - loss(i, -1e-6)) / 2e-6).epsilon(1e-4).margin(1e-5));
}

TEST_CASE("dorefa_activations: clipped to [0, 1], and the codes of inference") {
    dorefa_activations<2> q({7});
    const std::vector<float> x{-0.5f, 0.0f, 0.1f, 0.6f, 1.0f, 1.1f, not_a_number}, dy{1, 2, 3, 4, 5, 6, 7};
    q.forward(x);
    CHECK(vec(q.codes()) == std::vector<std::uint8_t>{0, 0, 0, 2, 3, 3, 0});
    CHECK(vec(q.backward(x, dy)) == std::vector<float>{0, 2, 3, 4, 5, 0, 0});
    dorefa_activations<8> wide({400});
    const auto y = randoms(4, 400, -0.5f, 1.5f);
    wide.forward(y);
    check_values(wide);
    std::vector<std::uint8_t> codes(400);
    quantize<affine<8>>(y, wide.params()[0], codes);
    CHECK(codes == vec(wide.codes()));
    CHECK(*std::max_element(wide.values().begin(), wide.values().end()) == Approx(1.0f).epsilon(1e-6));
}

TEST_CASE("dorefa_gradient: the grid of the paper, exact at its ends, and dy in expectation") {
    // Two samples of three: M = 2 and 8; with 2 bits the values are -M, -M / 3, M / 3, M.
    const std::vector<float> dy{2.0f, -2.0f, 0.5f, 1.0f, 8.0f, -3.0f};
    const channel_layout samples{1, 2, 3};
    std::vector<double> mean(6);
    std::vector<float> dx(6), again(6);
    const int draws = 20000;
    for (int t = 0; t < draws; ++t) {
        dorefa_gradient<2>(dy, samples, stochastic{7, static_cast<std::uint64_t>(t)}, dx);
        for (std::size_t i = 0; i < 6; ++i) {
            const float m = i < 3 ? 2.0f : 8.0f;
            mean[i] += static_cast<double>(dx[i]) / draws;
            if (std::fabs(dx[i]) != m && std::fabs(std::fabs(dx[i]) - m / 3.0f) > 1e-6f * m) FAIL(dx[i]);
        }
        if (dx[0] != 2.0f || dx[1] != -2.0f || dx[4] != 8.0f) FAIL(t);
    }
    // The deviation of a draw is at most half a step, M / 3: five deviations of the mean.
    for (std::size_t i = 0; i < 6; ++i)
        CHECK(mean[i] ==
              Approx(static_cast<double>(dy[i])).margin(5 * (i < 3 ? 2.0 : 8.0) / 3 / std::sqrt(1.0 * draws)));
    dorefa_gradient<2>(dy, samples, stochastic{7, 1}, again);
    dorefa_gradient<2>(dy, samples, stochastic{7, 1}, dx);
    CHECK(again == dx);
    auto in_place = dy;
    dorefa_gradient<2>(in_place, samples, stochastic{7, 1}, in_place);
    CHECK(in_place == dx);

    const std::vector<float> zeros{0.0f, 0.0f, 0.0f, not_a_number, infinity, -1.0f};
    dorefa_gradient<4>(zeros, samples, stochastic{1}, dx);
    CHECK((dx[0] == 0.0f && dx[2] == 0.0f && std::isnan(dx[3]) && dx[4] == infinity && dx[5] == -1.0f));
    CHECK_THROWS_WITH(dorefa_gradient<4>(dy, {1, 2, 4}, stochastic{1}, dx),
                      contains_text("size of dy is 6, expected 8"));
    CHECK_THROWS_WITH(dorefa_gradient<4>(dy, samples, stochastic{1}, std::span(dx).first(5)),
                      contains_text("size of dx is 5, expected 6"));
    dorefa_gradient<4>({}, {1, 0, 3}, stochastic{1}, {});
}

TEST_CASE("ternary_weights (TWN): codes, threshold and scale by hand") {
    // mean|w| = 0.9, delta = 0.63, alpha = (2 + 1) / 2.
    ternary_weights<> q({6});
    const std::vector<float> w{2.0f, -1.0f, 0.5f, -0.1f, not_a_number, infinity}, dy{1, 2, 3, 4, 5, 6};
    q.forward(w);
    CHECK(q.thresholds()[0] == Approx(0.63f).epsilon(1e-6));
    CHECK(q.params()[0] == quant_params{1.5f, 0});
    CHECK(vec(q.codes()) == std::vector<std::int8_t>{1, -1, 0, 0, 0, 1});
    check_values(q);
    CHECK(vec(q.backward(w, dy)) == dy);

    ternary_weights<per_channel<0>> rows({3, 2});
    rows.forward(std::vector<float>{4.0f, -1.0f, 0.0f, 0.0f, 1e-44f, -1e-44f});
    CHECK(rows.params()[0].scale == 4.0f);    // 1 < 0.7 * 2.5
    CHECK(rows.params()[1].scale == 1.0f);    // no weights
    CHECK(rows.params()[2].scale == FLT_MIN); // 1e-44, below the normal floats
    CHECK(vec(rows.codes()) == std::vector<std::int8_t>{1, 0, 0, 0, 1, -1});
    CHECK(vec(rows.values()) == std::vector<float>{4.0f, 0.0f, 0.0f, 0.0f, FLT_MIN, -FLT_MIN});
    ternary_weights<> infinite({2}); // no finite weight to take a mean of
    infinite.forward(std::vector<float>{infinity, 0.0f});
    CHECK(vec(infinite.values()) == std::vector<float>{1.0f, 0.0f});
    check_values(rows);
    static_assert(symmetric_quantizer<ternary_weights<per_channel<0>>>);
}

TEST_CASE("trained ternary weights ship: ternarize makes the same codes, the kernels take them") {
    const index_t out = 5, in = 70;
    const auto w = randoms(5, static_cast<std::size_t>(out * in), -1.0f, 1.0f);
    ternary_weights<per_channel<0>> q({out, in});
    q.forward(w);
    check_values(q);
    std::vector<std::int8_t> codes(static_cast<std::size_t>(in));
    for (index_t c = 0; c < out; ++c) {
        std::vector<std::uint32_t> bits(2 * static_cast<std::size_t>(packed_bits_size(in)));
        const auto words = static_cast<index_t>(bits.size());
        ternarize({w.data() + c * in, 1, in}, q.thresholds()[static_cast<std::size_t>(c)], {bits.data(), 1, words});
        unpack_ternary_codes(std::span(bits).first(bits.size() / 2), std::span(bits).last(bits.size() / 2), codes);
        for (index_t k = 0; k < in; ++k)
            CHECK(codes[static_cast<std::size_t>(k)] == q.codes()[static_cast<std::size_t>(c * in + k)]);
    }
    // u8 activations x 2-bit weights, and binary activations x ternary weights: sums of value * x.
    std::vector<float> scales;
    for (const quant_params& p : q.params()) scales.push_back(p.scale);
    const auto packed = pack_int2_weights({q.codes().data(), out, in});
    const auto ep = make_epilogue(packed, stage::dequantize{quant_params{0.5f, 3}, scales});
    std::vector<std::uint8_t> x(static_cast<std::size_t>(in));
    for (std::size_t k = 0; k < x.size(); ++k) x[k] = static_cast<std::uint8_t>(k * 37 % 256);
    std::vector<float> y(static_cast<std::size_t>(out));
    gemm_int2(matrix_view<const std::uint8_t>(x.data(), 1, in), packed, ep, matrix_view<float>(y.data(), 1, out));
    sign_activation<> sign({in});
    const auto a = randoms(6, static_cast<std::size_t>(in), -1.0f, 1.0f);
    sign.forward(a);
    std::vector<std::uint32_t> a_bits(static_cast<std::size_t>(packed_bits_size(in)));
    binarize({a.data(), 1, in}, 0.0f, {a_bits.data(), 1, static_cast<index_t>(a_bits.size())});
    const auto bits = pack_ternary({q.codes().data(), out, in});
    const auto bits_ep = make_epilogue(bits, stage::dequantize{quant_params{1.0f, 0}, scales});
    std::vector<float> z(static_cast<std::size_t>(out));
    gemm_bits(matrix_view<const std::uint32_t>(a_bits.data(), 1, static_cast<index_t>(a_bits.size())),
              bit_codes::binary, bits, bits_ep, matrix_view<float>(z.data(), 1, out));
    for (index_t c = 0; c < out; ++c) {
        double by_x = 0, by_sign = 0;
        for (index_t k = 0; k < in; ++k) {
            const auto at = static_cast<std::size_t>(k);
            const double v = static_cast<double>(q.values()[static_cast<std::size_t>(c * in + k)]);
            by_x += v * 0.5 * (x[at] - 3);
            by_sign += v * static_cast<double>(sign.values()[at]);
        }
        CHECK(static_cast<double>(y[static_cast<std::size_t>(c)]) == Approx(by_x).epsilon(1e-5));
        CHECK(static_cast<double>(z[static_cast<std::size_t>(c)]) == Approx(by_sign).epsilon(1e-5).margin(1e-6));
    }
}

TEST_CASE("binary_connect and xnor_weights: codes, scales and gradients by hand") {
    const std::vector<float> w{0.5f, -1.5f, 0.0f, -0.0f, 1.0f, not_a_number}, dy{1, 2, 3, 4, 5, 6};
    binary_connect plain({6});
    plain.forward(w);
    CHECK(vec(plain.codes()) == std::vector<std::int8_t>{1, -1, 1, 1, 1, -1});
    CHECK(plain.params()[0].scale == 1.0f);
    check_values(plain);
    CHECK(vec(plain.backward(w, dy)) == dy);

    // Rows: mean|w| = 1, 0 and 1 (NaN counts for none); dw = dy * (1 / 2 + alpha where |w| <= 1).
    xnor_weights<> rows({3, 2});
    rows.forward(w);
    CHECK(vec(rows.codes()) == vec(plain.codes()));
    CHECK(rows.params()[0].scale == 1.0f);
    CHECK(rows.params()[1].scale == FLT_MIN);
    CHECK(rows.params()[2].scale == 1.0f);
    check_values(rows);
    CHECK(vec(rows.backward(w, dy)) == std::vector<float>{1.5f, 1.0f, 1.5f, 2.0f, 7.5f, 3.0f});
    xnor_weights<per_tensor> all({3, 2});
    all.forward(w);
    CHECK(all.params()[0].scale == Approx(3.0 / 5.0).epsilon(1e-6));

    std::vector<float> clipped{-2.0f, -1.0f, 0.3f, 1.0f, infinity};
    clip_weights(clipped);
    CHECK(clipped == std::vector<float>{-1.0f, -1.0f, 0.3f, 1.0f, 1.0f});
    static_assert(symmetric_quantizer<binary_connect> && symmetric_quantizer<xnor_weights<>>);
}

TEST_CASE("trained binary layers ship: gemm_bits gives the products of the values") {
    const index_t out = 3, in = 45;
    const auto w = randoms(7, static_cast<std::size_t>(out * in), -1.0f, 1.0f);
    const auto x = randoms(8, static_cast<std::size_t>(in), -1.0f, 1.0f);
    xnor_weights<> q({out, in});
    q.forward(w);
    check_values(q);
    sign_activation<> sign({in});
    sign.forward(x);
    std::vector<std::uint32_t> bits(static_cast<std::size_t>(packed_bits_size(in))), by_codes(bits.size());
    binarize({x.data(), 1, in}, 0.0f, {bits.data(), 1, static_cast<index_t>(bits.size())});
    pack_binary_codes(sign.codes(), by_codes);
    CHECK(bits == by_codes);
    std::vector<float> scales, y(static_cast<std::size_t>(out));
    for (const quant_params& p : q.params()) scales.push_back(p.scale);
    const auto packed = pack_binary({q.codes().data(), out, in});
    const auto ep = make_epilogue(packed, stage::dequantize{quant_params{1.0f, 0}, scales});
    gemm_bits(matrix_view<const std::uint32_t>(bits.data(), 1, static_cast<index_t>(bits.size())), bit_codes::binary,
              packed, ep, matrix_view<float>(y.data(), 1, out));
    for (index_t c = 0; c < out; ++c) {
        double sum = 0;
        for (index_t k = 0; k < in; ++k)
            sum += static_cast<double>(q.values()[static_cast<std::size_t>(c * in + k)]) *
                   static_cast<double>(sign.values()[static_cast<std::size_t>(k)]);
        CHECK(static_cast<double>(y[static_cast<std::size_t>(c)]) == Approx(sum).epsilon(1e-5).margin(1e-6));
    }
}

TEST_CASE("sign_activation: the slope is the derivative of the piecewise quadratic") {
    const std::vector<float> x{-1.5f, -1.0f, -0.75f, -0.25f, 0.0f, 0.5f, 1.0f, 2.0f, not_a_number}, dy(9, 2.0f);
    sign_activation<> q({9});
    q.forward(x);
    CHECK(vec(q.codes()) == std::vector<std::int8_t>{-1, -1, -1, -1, 1, 1, 1, 1, -1});
    check_values(q);
    CHECK(vec(q.backward(x, dy)) == std::vector<float>{0, 0, 1, 3, 4, 2, 0, 0, 0});
    const auto smooth = [](double v) { return v < -1 ? -1.0 : v < 0 ? 2 * v + v * v : v < 1 ? 2 * v - v * v : 1.0; };
    for (float v = -1.45f; v < 1.5f; v += 0.1f) {
        const auto d = static_cast<double>(v);
        CHECK(static_cast<double>(approx_sign::slope(v)) ==
              Approx((smooth(d + 1e-6) - smooth(d - 1e-6)) / 2e-6).margin(1e-5));
    }
    sign_activation<hard_tanh> hard({9});
    hard.forward(x);
    CHECK(vec(hard.backward(x, dy)) == std::vector<float>{0, 2, 2, 2, 2, 2, 2, 0, 0});
}

TEST_CASE("quantizers of few bits refuse what they cannot do") {
    check_refusals<dorefa_weights<4>>("dorefa_weights");
    check_refusals<dorefa_activations<4>>("dorefa_activations");
    check_refusals<ternary_weights<per_channel<0>>>("ternary_weights");
    check_refusals<binary_connect>("binary_connect");
    check_refusals<xnor_weights<>>("xnor_weights");
    check_refusals<sign_activation<>>("sign_activation");
}
