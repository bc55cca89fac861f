// SPDX-License-Identifier: Apache-2.0
//
// Every granularity through observers and quantizers, against plain loops over index_of.
#include "../catch.hpp"

#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <notch/kernels/quantize.hpp>
#include <notch/qat/fake_quant.hpp>
#include <notch/qat/learned_step.hpp>
#include <notch/ref/quantize.hpp>

using namespace notch;

namespace {

std::vector<float> random_values(std::size_t n, unsigned seed) {
    std::mt19937 g(seed);
    std::vector<float> x(n);
    for (std::size_t i = 0; i < n; ++i)
        x[i] =
            std::ldexp(static_cast<float>(static_cast<int>(g() % 2001) - 1000) / 1000.0f, static_cast<int>(i / 8 % 5));
    return x;
}

/// Observers, quantizers and masks for a layout against plain loops over all elements.
template <class Range> index_t faults(const channel_layout& l) {
    using code = typename Range::code_type;
    const auto n = static_cast<std::size_t>(l.size());
    const std::vector<float> x = random_values(n, static_cast<unsigned>(n));
    std::vector<real_range> ranges(static_cast<std::size_t>(l.count()));
    for (std::size_t i = 0; i < n; ++i) {
        real_range& r = ranges[static_cast<std::size_t>(l.index_of(static_cast<index_t>(i)))];
        r.min = std::min(r.min, x[i]);
        r.max = std::max(r.max, x[i]);
    }
    channel_observer<min_max> observer(l.count());
    observer.observe(x, l);
    index_t wrong = 0;
    // Once with the ranges of the values, once with smaller ones: then there are masks of 0.
    for (float shrink : {1.0f, 0.5f}) {
        std::vector<quant_params> params(ranges.size());
        for (std::size_t p = 0; p < ranges.size(); ++p) {
            wrong += observer.range(static_cast<index_t>(p)) != ranges[p];
            params[p] = params_from_range<Range>({ranges[p].min * shrink, ranges[p].max * shrink});
        }
        std::vector<code> codes(n), by_kernel(n), by_ref(n);
        std::vector<float> values(n), back(n), values_by_ref(n);
        std::vector<std::uint8_t> mask(n), mask_by_ref(n);
        fake_quantize<Range>(x, l, params, codes, values, mask);
        for (std::size_t i = 0; i < n; ++i) {
            const quant_params p = params[static_cast<std::size_t>(l.index_of(static_cast<index_t>(i)))];
            const std::int32_t c = ref::quantize(x[i], p, {Range::qmin, Range::qmax});
            const float free = std::nearbyint(x[i] / p.scale) + static_cast<float>(p.zero_point);
            const bool inside = free >= static_cast<float>(Range::qmin) && free <= static_cast<float>(Range::qmax);
            wrong += codes[i] != c || values[i] != ref::dequantize(c, p) || (mask[i] != 0) != inside;
        }
        quantize<Range>(x, l, params, by_kernel);
        dequantize<code>(codes, l, params, back);
        ref::fake_quantize(std::span<const float>(x), l, params, {Range::qmin, Range::qmax}, std::span(by_ref),
                           std::span(values_by_ref), std::span(mask_by_ref));
        wrong +=
            by_kernel != codes || back != values || by_ref != codes || values_by_ref != values || mask_by_ref != mask;
    }
    return wrong;
}

template <class Range> void check_all() {
    for (std::array<index_t, 3> e : {std::array<index_t, 3>{2, 3, 4}, {3, 5, 70}, {1, 17, 33}, {4, 40, 1}, {2, 1, 100}})
        for (const channel_layout& l :
             {layout_of<per_tensor>(e), layout_of<per_channel<0>>(e), layout_of<per_channel<1>>(e),
              layout_of<per_channel<2>>(e), layout_of<per_token>(e), layout_of<per_group<32>>(e),
              layout_of<per_group<2, 0>>(e), layout_of<per_group<8, 1>>(e), layout_of<per_block<4, 16>>(e)}) {
            INFO(e[0] << " x " << e[1] << " x " << e[2] << ", " << l.count() << " parameters of " << Range::bits
                      << " bits");
            CHECK(faults<Range>(l) == 0);
        }
}

} // namespace

TEST_CASE("every granularity, from the observer to the codes, values and masks") {
    check_all<affine<8>>();
    check_all<symmetric<4>>();
}

TEST_CASE("a new combination of range and granularity is a type") {
    using range = power_of_two<symmetric<6>>;
    const std::array<index_t, 3> e{2, 9, 40};
    const std::vector<float> x = random_values(720, 8), dy = random_values(720, 9);
    fake_quant<range, per_block<4, 16>> q(e);
    q.forward(x);
    const auto dx = q.backward(dy);
    CHECK(q.layout() == layout_of<per_block<4, 16>>(e));
    REQUIRE(q.params().size() == 2 * 3 * 3);
    std::vector<std::int8_t> codes(720);
    quantize<range>(x, q.layout(), q.params(), codes);
    CHECK(std::equal(codes.begin(), codes.end(), q.codes().begin()));
    CHECK(std::equal(dx.begin(), dx.end(), dy.begin())); // nothing is clipped by its own range
    int exponent = 0;
    for (const quant_params& p : q.params()) CHECK(std::frexp(p.scale, &exponent) == 0.5f);
}

TEST_CASE("codes of 16 bits have every granularity too") {
    check_all<affine<16>>();
    // And one pair of parameters for all; the zero point may be any code.
    const quant_params p{0.5f, 40000};
    const float x[] = {0.25f, -20000.0f, 1e9f, std::numeric_limits<float>::quiet_NaN(), 12.5f};
    std::uint16_t codes[5];
    float back[5];
    quantize<affine<16>>(x, p, codes);
    dequantize<std::uint16_t>(codes, p, back);
    CHECK(std::vector<std::uint16_t>(codes, codes + 5) == std::vector<std::uint16_t>{40000, 0, 65535, 40000, 40025});
    CHECK(back[4] == 12.5f);
    CHECK_THROWS_WITH(quantize<affine<16>>(x, quant_params{1.0f, 65536}, codes), contains_text("zero_point is 65536"));
}

TEST_CASE("learned steps by group: the gradient of each step is that of its own elements") {
    const std::array<index_t, 2> e{3, 40}; // groups of 32 and of 8
    const std::vector<float> x = random_values(120, 5), dy = random_values(120, 6);
    learned_step<symmetric<4>, per_group<32>> all(e);
    all.forward(x);
    const auto dx = all.backward(x, dy);
    REQUIRE(all.log_step().size() == 6);
    for (std::size_t row = 0; row < 3; ++row)
        for (std::size_t g = 0; g < 2; ++g) {
            const std::size_t at = row * 40 + g * 32, n = g == 0 ? 32 : 8;
            learned_step<symmetric<4>> one({static_cast<index_t>(n)});
            one.forward(std::span(x).subspan(at, n));
            const auto want = one.backward(std::span(x).subspan(at, n), std::span(dy).subspan(at, n));
            CHECK(one.log_step()[0] == all.log_step()[row * 2 + g]);
            CHECK(one.log_step_gradient()[0] == all.log_step_gradient()[row * 2 + g]);
            CHECK(std::equal(want.begin(), want.end(), dx.begin() + static_cast<std::ptrdiff_t>(at)));
        }
}

TEST_CASE("layouts with groups are refused where channels are needed, and wrong numbers of parameters everywhere") {
    const channel_layout l = layout_of<per_group<4>>(std::array<index_t, 2>{2, 8});
    const std::vector<float> x(16);
    std::vector<std::int8_t> codes(16);
    const std::vector<quant_params> params(3);
    CHECK_THROWS_WITH(quantize<symmetric<8>>(x, l, params, codes), contains_text("3 params for 4 groups"));
    channel_observer<min_max> o(3);
    CHECK_THROWS_WITH(o.observe(x, l), contains_text("the number of groups is 4, expected 3"));
    CHECK_THROWS_WITH(detail::check_channel_layout("fold", l), contains_text("fold: the layout has groups"));
}

TEST_CASE("learned steps of a power_of_two range are powers of two") {
    learned_step<power_of_two<symmetric<8>>> q({4});
    const std::vector<float> x = {0.3f, -0.7f, 1.1f, 0.2f};
    (void)q.forward(x);
    int exponent = 0;
    CHECK(std::frexp(q.params()[0].scale, &exponent) == 0.5f);
    q.log_step()[0] = std::log(0.26f);
    CHECK(q.step(0) == 0.5f);
    q.log_step()[0] = std::log(0.24f);
    CHECK(q.step(0) == 0.25f);
}
