// SPDX-License-Identifier: Apache-2.0
//
// The elementwise kernels, on every instruction set that this CPU has, against the definitions in ref/, bit
// for bit: every tie of a scale and its neighbours, scales for which the reciprocal is refused and the
// nearest for which it is not, huge and tiny scales, NaN and infinities in every lane, every length up to
// 200 at every offset, between pages without access.
#include "../catch.hpp"
#include "../guard_page.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include <notch/kernels/add.hpp>
#include <notch/kernels/gemm.hpp>
#include <notch/kernels/pool.hpp>
#include <notch/kernels/quantize.hpp>
#include <notch/qat/fake_quant.hpp>
#include <notch/ref/quantize.hpp>
#include <notch/scheme/reciprocal.hpp>

using namespace notch;

namespace {

constexpr float inf = std::numeric_limits<float>::infinity(), nan_value = std::numeric_limits<float>::quiet_NaN();

float from_bits(std::uint32_t bits) {
    float f = 0;
    std::memcpy(&f, &bits, 4);
    return f;
}
/// A normal float with a given significand (bits below the leading one) and exponent.
float compose(std::uint32_t significand, int exponent) {
    return from_bits(static_cast<std::uint32_t>(exponent + 127) << 23 | significand);
}

/// Every tie between the steps -257 ... 257 and the six floats around it, and values that overflow or are none.
std::vector<float> hard_values(float scale) {
    std::vector<float> x;
    for (int k = -257; k <= 257; ++k) {
        float v = static_cast<float>((k + 0.5) * static_cast<double>(scale));
        for (int i = 0; i < 3; ++i) v = std::nextafter(v, -inf);
        for (int i = 0; i < 7; ++i, v = std::nextafter(v, inf)) x.push_back(v);
    }
    for (float v : {0.0f, -0.0f, 1e-45f, -1e-45f, 1e-38f, 3.4e38f, -3.4e38f, inf, -inf, 1e30f * scale, -1e30f * scale})
        x.push_back(v);
    return x;
}
std::vector<float> random_values(std::mt19937& g, std::size_t n, float scale) {
    std::vector<float> x(n);
    for (float& v : x) {
        v = scale * (static_cast<float>(g() % 60001) / 100.0f - 300.0f);
        if (g() % 3 == 0) v = scale * (static_cast<float>(g() % 600) - 300.0f + 0.5f);
        if (g() % 64 == 0) v = from_bits(static_cast<std::uint32_t>(g()));
    }
    return x;
}

/// What ref/ says of one value: code, value, mask.
struct expected {
    std::int32_t code;
    float value;
    std::uint8_t mask;
    expected(float x, quant_params p, code_range range)
        : code(ref::quantize(x, p, range)), value(ref::dequantize(code, p)) {
        const float steps = x != x ? 0.0f : std::nearbyintf(x / p.scale);
        mask = steps >= static_cast<float>(range.lo - p.zero_point) &&
               steps <= static_cast<float>(range.hi - p.zero_point);
    }
};
/// The multiplier of an epilogue, as docs/numerics.md defines it.
float multiplier(quant_params x, float w, quant_params y) {
    return static_cast<float>(static_cast<double>(x.scale) * static_cast<double>(w) / static_cast<double>(y.scale));
}
bool same(float a, float b) { return std::memcmp(&a, &b, 4) == 0; }

/// Codes alone, and codes, values and mask, of all of x; the number of differences.
template <class Range> int differences(std::span<const float> x, quant_params p, const context& ctx) {
    using code = typename Range::code_type;
    std::vector<code> codes(x.size()), fake(x.size());
    std::vector<float> values(x.size());
    std::vector<std::uint8_t> mask(x.size());
    quantize<Range>(x, p, codes, ctx);
    fake_quantize<Range>(x, {1, 1, static_cast<index_t>(x.size())}, std::span(&p, 1), fake, values, mask, ctx);
    int wrong = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        const expected e(x[i], p, {Range::qmin, Range::qmax});
        wrong += codes[i] != e.code || fake[i] != e.code || !same(values[i], e.value) || mask[i] != e.mask;
    }
    return wrong;
}

} // namespace

TEST_CASE("quantize and fake_quantize are exact at every tie, for any scale") {
    std::mt19937 g(11);
    std::vector<float> scales{1.0f,
                              0.5f,
                              0.1f,
                              0.02f,
                              1.0f / 255,
                              1.0f / 127,
                              3.0f,
                              std::numeric_limits<float>::min(),
                              1e-40f,
                              1e-45f,
                              std::numeric_limits<float>::max() / 300,
                              std::numeric_limits<float>::max(),
                              std::ldexp(1.0f, 64),
                              std::ldexp(1.0f, -64),
                              std::nextafter(std::ldexp(1.0f, 64), inf),
                              std::nextafter(std::ldexp(1.0f, -64), 0.0f)};
    // Significands whose low 15 bits are near 0: refused up to 6, taken from 7 on, where the margin is least.
    for (std::uint32_t high = 0; high < 256; high += 1 + static_cast<std::uint32_t>(g() % 16))
        for (int low : {-9, -8, -7, -6, -3, -1, 0, 1, 2, 5, 6, 7, 8, 9})
            scales.push_back(compose(((high << 15) + static_cast<std::uint32_t>(low)) & 0x7fffffu,
                                     static_cast<int>(g() % 120) - 60));
    for (int i = 0; i < 150; ++i) scales.push_back(compose(g() & 0x7fffffu, static_cast<int>(g() % 252) - 126));
    for (isa i : available_isas())
        for (float scale : scales) {
            const auto x = hard_values(scale);
            INFO(to_string(i) << " scale " << scale);
            REQUIRE(differences<affine<8>>(x, {scale, static_cast<std::int32_t>(g() % 256)}, context(i)) == 0);
            REQUIRE(differences<affine_signed<8>>(x, {scale, static_cast<std::int32_t>(g() % 256) - 128}, context(i)) ==
                    0);
            REQUIRE(differences<symmetric<4>>(x, {scale, 0}, context(i)) == 0);
            REQUIRE(differences<affine<3>>(x, {scale, static_cast<std::int32_t>(g() % 8)}, context(i)) == 0);
        }
}

TEST_CASE("a NaN in any lane gives zero_point and does not touch its neighbours") {
    std::mt19937 g(12);
    for (isa i : available_isas())
        for (std::size_t at = 0; at < 130; ++at) {
            auto x = random_values(g, 130, 0.1f);
            x[at] = g() % 2 ? nan_value : -nan_value;
            x[(at * 7 + 5) % 130] = inf;
            REQUIRE(differences<affine<8>>(x, {0.1f, 77}, context(i)) == 0);
        }
}

TEST_CASE("arrays of several chunks: what does not fit the codes in one of them is its own affair") {
    std::mt19937 g(14);
    const std::size_t chunk = 4096, n = 3 * chunk + 70;
    for (isa i : available_isas())
        for (float odd : {nan_value, inf, -inf, 1e30f, -3.4e38f})
            for (std::size_t where = 0; where < 4; ++where) {
                std::vector<float> x(n);
                for (float& v : x) v = 0.1f * (static_cast<float>(g() % 60001) / 100.0f - 300.0f);
                x[where * chunk + g() % (where < 3 ? chunk : 70)] = odd;
                INFO(to_string(i) << " " << odd << " in chunk " << where);
                REQUIRE(differences<affine<8>>(x, {0.1f, 77}, context(i)) == 0);
                REQUIRE(differences<affine_signed<8>>(x, {0.1f, -5}, context(i)) == 0);
            }
}

TEST_CASE("a reciprocal of a scale is below it, and refused exactly where the proof ends") {
    std::mt19937 g(13);
    for (int trial = 0; trial < 100000; ++trial) {
        const std::uint32_t significand =
            trial < 40 ? static_cast<std::uint32_t>(trial - 20) & 0x7fffffu : g() & 0x7fffffu;
        const float s = compose(significand, static_cast<int>(g() % 127) - 63);
        const scale_reciprocal r = reciprocal_of(s);
        const int low = static_cast<int>(significand & 0x7fffu), distance = low < 0x4000 ? low : 0x8000 - low;
        REQUIRE(r.exact == (distance == 0 || distance > 6));
        const double inverse = 1.0 / static_cast<double>(s);
        REQUIRE(static_cast<double>(r.high) < inverse);
        REQUIRE(static_cast<double>(std::nextafter(r.high, inf)) >= inverse);
        REQUIRE(r.low > 0.0f);
        REQUIRE(std::fabs((static_cast<double>(r.high) + static_cast<double>(r.low)) / inverse - 1.0) <=
                std::ldexp(1.0, -47));
    }
    for (float s : {0.0f, 1e-45f, 1e-20f, 2e19f, std::numeric_limits<float>::max()})
        CHECK_FALSE(reciprocal_of(s).exact);
    for (int n = -511; n <= 511; ++n) {
        const float first = first_rounding_to(n), last = last_rounding_to(n);
        REQUIRE(std::nearbyintf(first) == static_cast<float>(n));
        REQUIRE(std::nearbyintf(last) == static_cast<float>(n));
        REQUIRE(std::nearbyintf(std::nextafter(first, -inf)) == static_cast<float>(n - 1));
        REQUIRE(std::nearbyintf(std::nextafter(last, inf)) == static_cast<float>(n + 1));
    }
}

TEST_CASE("every length and offset, between guard pages, with any of the outputs absent") {
    std::mt19937 g(14);
    const quant_params p{0.05f, 100}, yp{0.07f, 30};
    for (isa i : available_isas())
        for (std::ptrdiff_t n = 0; n <= 200; ++n)
            for (guard side : {guard::after, guard::before}) {
                const context ctx(i);
                const std::ptrdiff_t offset = n % 5; // elements left out at the side without a guard
                const std::ptrdiff_t begin = side == guard::after ? offset : 0;
                guarded<float> x(n + offset, side), values(n + offset, side), dx(n + offset, side),
                    back(n + offset, side);
                guarded<std::uint8_t> codes(n + offset, side), mask(n + offset, side), other(n + offset, side);
                const auto random = random_values(g, static_cast<std::size_t>(n), p.scale);
                std::copy(random.begin(), random.end(), x.begin() + begin);
                const auto part = [&](auto& v) {
                    return v.span().subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(n));
                };
                const std::span<const float> in = part(x);
                const channel_layout layout{1, 1, n};
                const auto which = g() % 8;
                quantize<affine<8>>(in, p, part(codes), ctx);
                int wrong = 0;
                for (std::size_t j = 0; j < in.size(); ++j)
                    wrong += part(codes)[j] != expected(in[j], p, {0, 255}).code;
                for (auto& c : codes) c = 0;
                fake_quantize<affine<8>>(in, layout, std::span(&p, 1),
                                         which & 1 ? part(codes) : std::span<std::uint8_t>(),
                                         which & 2 ? part(values) : std::span<float>(),
                                         which & 4 ? part(mask) : std::span<std::uint8_t>(), ctx);
                for (std::size_t j = 0; j < in.size(); ++j) {
                    const expected e(in[j], p, {0, 255});
                    wrong += part(codes)[j] != (which & 1 ? e.code : 0);
                    wrong += which & 2 ? !same(part(values)[j], e.value) : part(values)[j] != 0.0f;
                    wrong += part(mask)[j] != (which & 4 ? e.mask : 0);
                }
                INFO(to_string(i) << " n " << n << " outputs " << which);
                REQUIRE(wrong == 0);

                quantize<affine<8>>(in, p, part(codes), ctx);
                dequantize<std::uint8_t>(part(codes), p, part(back), ctx);
                requantize_codes<affine<8>, std::uint8_t>(part(codes), p, part(other), yp, ctx);
                for (std::size_t j = 0; j < in.size(); ++j) {
                    wrong += !same(part(back)[j], ref::dequantize(part(codes)[j], p));
                    wrong += part(other)[j] != ref::requantize_code(part(codes)[j], p, yp, {0, 255});
                    part(mask)[j] = static_cast<std::uint8_t>(g() % 3 == 0 ? 0 : g() % 2 ? 1 : 255);
                }
                straight_through(in, part(mask), part(dx), ctx);
                for (std::size_t j = 0; j < in.size(); ++j) wrong += !same(part(dx)[j], part(mask)[j] ? in[j] : 0.0f);
                const real_range r = value_range(in, ctx);
                real_range want;
                for (float v : in)
                    if (std::isfinite(v)) want = {std::min(want.min, v), std::max(want.max, v)};
                wrong += !(r == want);
                REQUIRE(wrong == 0);
            }
}

TEST_CASE("value_range passes over NaN and infinities anywhere") {
    std::mt19937 g(15);
    for (isa i : available_isas())
        for (int trial = 0; trial < 300; ++trial) {
            std::vector<float> x(g() % 300);
            real_range want;
            const auto rare = 1 + g() % 100;
            for (float& v : x) {
                v = g() % rare == 0 ? (g() % 3 == 0 ? nan_value
                                       : g() % 2    ? inf
                                                    : -inf)
                                    : static_cast<float>(g() % 1000) - 990.0f;
                if (std::isfinite(v)) want = {std::min(want.min, v), std::max(want.max, v)};
            }
            REQUIRE(value_range(x, context(i)) == want);
        }
}

TEST_CASE("one pair of parameters for each channel: rows, columns and what lies between") {
    std::mt19937 g(16);
    const auto check = [&]<class Range>(Range, isa i, channel_layout layout) {
        using code = typename Range::code_type;
        const context ctx(i);
        std::vector<quant_params> params(static_cast<std::size_t>(layout.channels));
        for (quant_params& p : params)
            p = {std::ldexp(1.0f + static_cast<float>(g() % 4096) / 4096.0f, static_cast<int>(g() % 9) - 8),
                 Range::has_zero_point ? Range::qmin + static_cast<std::int32_t>(g() % 256) : 0};
        if (g() % 3 == 0 && !params.empty())
            params[g() % params.size()].scale = compose(3, 0); // its reciprocal is refused
        auto x = random_values(g, static_cast<std::size_t>(layout.size()), 0.1f);
        std::vector<code> y(x.size()), want(x.size()), fake(x.size());
        std::vector<float> back(x.size()), values(x.size());
        std::vector<std::uint8_t> mask(x.size());
        ref::quantize<half_even, code>(x, layout, params, {Range::qmin, Range::qmax}, want);
        quantize<Range>(x, layout, params, y, ctx);
        dequantize<code>(y, layout, params, back, ctx);
        const auto which = g() % 8;
        fake_quantize<Range>(x, layout, params, which & 1 ? std::span(fake) : std::span<code>(),
                             which & 2 ? std::span(values) : std::span<float>(),
                             which & 4 ? std::span(mask) : std::span<std::uint8_t>(), ctx);
        int wrong = 0;
        for (std::size_t j = 0; j < x.size(); ++j) {
            const quant_params p =
                params.size() == 1 ? params[0] : params[j / static_cast<std::size_t>(layout.inner) % params.size()];
            const expected e(x[j], p, {Range::qmin, Range::qmax});
            wrong += y[j] != want[j] || !same(back[j], e.value) || fake[j] != (which & 1 ? want[j] : 0);
            wrong += which & 2 ? !same(values[j], e.value) : values[j] != 0.0f;
            wrong += mask[j] != (which & 4 ? e.mask : 0);
        }
        INFO(to_string(i) << " layout " << layout.outer << " x " << layout.channels << " x " << layout.inner
                          << " outputs " << which);
        REQUIRE(wrong == 0);
    };
    for (isa i : available_isas())
        for (int trial = 0; trial < 60; ++trial) {
            const auto few = static_cast<index_t>(g() % 7), many = static_cast<index_t>(g() % 600);
            for (const channel_layout& l :
                 {channel_layout{few, many, 1}, {1, few, many}, {few, 3, few + 40}, {few, 1, many}}) {
                check(affine<8>{}, i, l);
                check(affine_signed<8>{}, i, l);
                check(symmetric<8>{}, i, l);
            }
        }
}

TEST_CASE("requantize_codes: all codes, between unsigned and signed") {
    std::mt19937 g(17);
    std::vector<std::uint8_t> u(256), yu(256);
    std::vector<std::int8_t> s(256), ys(256);
    for (int k = 0; k < 256; ++k) {
        u[static_cast<std::size_t>(k)] = static_cast<std::uint8_t>(k);
        s[static_cast<std::size_t>(k)] = static_cast<std::int8_t>(k - 128);
    }
    for (isa i : available_isas())
        for (int trial = 0; trial < 300; ++trial) {
            const context ctx(i);
            const auto scale = [&] {
                return trial % 10 == 0
                           ? std::ldexp(1.0f, static_cast<int>(g() % 240) - 120)
                           : std::ldexp(1.0f + static_cast<float>(g() % 4096) / 4096.0f, static_cast<int>(g() % 6));
            };
            const quant_params xu{scale(), static_cast<std::int32_t>(g() % 256)},
                xs{scale(), static_cast<std::int32_t>(g() % 256) - 128};
            const quant_params pu{scale(), static_cast<std::int32_t>(g() % 256)},
                ps{scale(), static_cast<std::int32_t>(g() % 256) - 128};
            const auto fits = [](quant_params a, quant_params b) { return std::isfinite(ref::codes_multiplier(a, b)); };
            if (!fits(xu, pu) || !fits(xu, ps) || !fits(xs, pu) || !fits(xs, ps)) continue;
            int wrong = 0;
            requantize_codes<affine<8>, std::uint8_t>(u, xu, yu, pu, ctx);
            requantize_codes<affine_signed<8>, std::uint8_t>(u, xu, ys, ps, ctx);
            for (std::size_t k = 0; k < 256; ++k)
                wrong += yu[k] != ref::requantize_code(u[k], xu, pu, {0, 255}) ||
                         ys[k] != ref::requantize_code(u[k], xu, ps, {-128, 127});
            requantize_codes<affine<8>, std::int8_t>(s, xs, yu, pu, ctx);
            requantize_codes<affine_signed<8>, std::int8_t>(s, xs, ys, ps, ctx);
            for (std::size_t k = 0; k < 256; ++k)
                wrong += yu[k] != ref::requantize_code(s[k], xs, pu, {0, 255}) ||
                         ys[k] != ref::requantize_code(s[k], xs, ps, {-128, 127});
            REQUIRE(wrong == 0);
            requantize_codes<affine<8>, std::uint8_t>(u, xu, yu, xu, ctx);
            REQUIRE(yu == u); // one grid: nothing changes
        }
}

TEST_CASE("quantize_rows_dynamic: each row as if it were alone, for any number of threads") {
    struct pool {
        index_t n;
        [[nodiscard]] index_t concurrency() const { return n; }
        void run(index_t tasks, task_ref task) const {
            for (index_t t = tasks; t-- > 0;) task(t);
        }
    };
    std::mt19937 g(18);
    for (isa i : available_isas())
        for (index_t threads : {1, 2, 3, 7}) {
            const pool executor{threads};
            const context ctx(i, executor);
            const index_t rows = static_cast<index_t>(g() % 12), cols = static_cast<index_t>(g() % 300),
                          stride = cols + 3;
            auto x = random_values(g, static_cast<std::size_t>(rows * stride), 0.3f);
            if (rows > 2)
                for (index_t c = 0; c < cols; ++c)
                    x[static_cast<std::size_t>(stride + c)] = 0.0f; // a row without a range
            std::vector<std::uint8_t> y(x.size(), 9), row(static_cast<std::size_t>(cols));
            std::vector<quant_params> params(static_cast<std::size_t>(rows));
            quantize_rows_dynamic<affine<8>>({x.data(), rows, cols, stride}, {y.data(), rows, cols, stride}, params,
                                             ctx);
            for (index_t r = 0; r < rows; ++r) {
                real_range range;
                for (index_t c = 0; c < cols; ++c) {
                    const float v = x[static_cast<std::size_t>(r * stride + c)];
                    if (std::isfinite(v)) range = {std::min(range.min, v), std::max(range.max, v)};
                }
                const quant_params p = params_from_range<affine<8>>(range);
                REQUIRE(params[static_cast<std::size_t>(r)] == p);
                int wrong = 0;
                for (index_t c = 0; c < stride; ++c) {
                    const auto at = static_cast<std::size_t>(r * stride + c);
                    wrong += y[at] != (c < cols ? ref::quantize(x[at], p, {0, 255}) : 9);
                }
                REQUIRE(wrong == 0);
            }
        }
}

TEST_CASE("requantize accumulators: any width and stride, codes and values of every kind, with and without a mask") {
    std::mt19937 g(19);
    for (isa i : available_isas())
        for (int trial = 0; trial < 250; ++trial) {
            const context ctx(i);
            const index_t rows = static_cast<index_t>(g() % 9),
                          cols = 1 + static_cast<index_t>(g() % (trial % 2 ? 40 : 400));
            const index_t lda = cols + static_cast<index_t>(g() % 3), ldc = trial % 3 ? lda : cols;
            const std::vector<std::int8_t> weights(static_cast<std::size_t>(cols), 1);
            std::vector<float> scales(static_cast<std::size_t>(cols));
            for (float& s : scales) s = 0.001f + static_cast<float>(g() % 1000) * 1e-4f;
            const packed_weights w = pack({weights.data(), cols, 1});
            const quant_params xp{0.5f, 3}, yp{trial % 7 ? 0.8f : 1e-9f, static_cast<std::int32_t>(g() % 256)};
            guarded<std::int32_t> acc(rows ? (rows - 1) * lda + cols : 0);
            for (auto& a : acc)
                a = g() % 9 == 0 ? static_cast<std::int32_t>(g()) : static_cast<std::int32_t>(g() % 8001) - 4000;
            const auto check = [&]<class Out>(Out, const auto& ep, const auto& want, const auto& inside) {
                guarded<Out> y(rows ? (rows - 1) * ldc + cols : 0), plain(rows ? (rows - 1) * ldc + cols : 0);
                guarded<std::uint8_t> mask(rows * cols);
                const matrix_view<const std::int32_t> a(acc.data(), rows, cols, lda);
                requantize(a, ep, matrix_view<Out>(y.data(), rows, cols, ldc), mask.span(), ctx);
                requantize(a, ep, matrix_view<Out>(plain.data(), rows, cols, ldc), {}, ctx);
                int wrong = 0;
                for (index_t r = 0; r < rows; ++r)
                    for (index_t c = 0; c < cols; ++c) {
                        const std::int32_t v = acc[static_cast<std::size_t>(r * lda + c)];
                        const auto at = static_cast<std::size_t>(r * ldc + c);
                        wrong += y[at] != want(v, c) || plain[at] != want(v, c);
                        wrong += mask[static_cast<std::size_t>(r * cols + c)] != (inside(v, c) ? 1 : 0);
                    }
                INFO(to_string(i) << " " << rows << " x " << cols << " stride " << lda << " to " << ldc);
                REQUIRE(wrong == 0);
            };
            const auto m = [&](index_t c) { return multiplier(xp, scales[static_cast<std::size_t>(c)], yp); };
            const auto real = [&](std::int32_t v, index_t c) {
                return static_cast<float>(v) *
                       static_cast<float>(static_cast<double>(xp.scale) *
                                          static_cast<double>(scales[static_cast<std::size_t>(c)]));
            };
            const auto steps = [&](std::int32_t v, index_t c) { return std::nearbyintf(static_cast<float>(v) * m(c)); };
            const std::int32_t z = yp.zero_point;
            check(
                std::uint8_t{}, make_epilogue(w, stage::requantize{xp, scales, yp}),
                [&](std::int32_t v, index_t c) {
                    return requantize_float(v, m(c), z, {0, 255});
                },
                [&](std::int32_t v, index_t c) {
                    return steps(v, c) >= static_cast<float>(-z) && steps(v, c) <= static_cast<float>(255 - z);
                });
            check(
                std::uint8_t{}, make_epilogue(w, stage::requantize{xp, scales, yp}, stage::relu{}),
                [&](std::int32_t v, index_t c) {
                    return requantize_float(v, m(c), z, {z, 255});
                },
                [&](std::int32_t v, index_t c) { return v > 0 && steps(v, c) <= static_cast<float>(255 - z); });
            const quant_params sp{yp.scale, z - 128};
            check(
                std::int8_t{}, make_epilogue(w, stage::requantize<affine_signed<8>>{xp, scales, sp}),
                [&](std::int32_t v, index_t c) {
                    return requantize_float(v, m(c), z - 128, {-128, 127});
                },
                [&](std::int32_t v, index_t c) {
                    return steps(v, c) >= static_cast<float>(-z) && steps(v, c) <= static_cast<float>(255 - z);
                });
            check(
                float{}, make_epilogue(w, stage::dequantize{xp, scales}, stage::clamp{-0.5f, 6.0f}),
                [&](std::int32_t v, index_t c) { return std::min(std::max(real(v, c), -0.5f), 6.0f); },
                [&](std::int32_t v, index_t c) { return real(v, c) >= -0.5f && real(v, c) <= 6.0f; });
            check(
                float{}, make_epilogue(w, stage::dequantize{xp, scales}, stage::relu{}),
                [&](std::int32_t v, index_t c) { return std::max(real(v, c), 0.0f); },
                [&](std::int32_t v, index_t) { return v > 0; });

            // 16-bit codes, a real bias, which may change the sign of a value, and bfloat16.
            check(
                std::int16_t{}, make_epilogue(w, stage::requantize<symmetric<16>>{xp, scales, {yp.scale * 1e-3f, 0}}),
                [&](std::int32_t v, index_t c) {
                    return requantize_float(v,
                                            multiplier(xp, scales[static_cast<std::size_t>(c)], {yp.scale * 1e-3f, 0}),
                                            0, {-32767, 32767});
                },
                [&](std::int32_t v, index_t c) {
                    const float s =
                        std::nearbyintf(static_cast<float>(v) *
                                        multiplier(xp, scales[static_cast<std::size_t>(c)], {yp.scale * 1e-3f, 0}));
                    return s >= -32767.0f && s <= 32767.0f;
                });
            const stage::requantize_fixed<symmetric<16>> fixed{xp, scales, {0.8e-3f, 0}};
            const auto fixed_code = [&](std::int32_t v, index_t c, code_range range) {
                const auto f = to_fixed_multiplier(0.5 * static_cast<double>(scales[static_cast<std::size_t>(c)]) /
                                                   static_cast<double>(0.8e-3f));
                return requantize_fixed_double(v, f, 0, range);
            };
            check(
                std::int16_t{}, make_epilogue(w, fixed),
                [&](std::int32_t v, index_t c) {
                    return fixed_code(v, c, {-32767, 32767});
                },
                [&](std::int32_t v, index_t c) {
                    const std::int32_t code = fixed_code(
                        v, c, {std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max()});
                    return code >= -32767 && code <= 32767;
                });
            std::vector<float> biases(static_cast<std::size_t>(cols));
            for (float& b : biases) b = 0.01f * static_cast<float>(static_cast<int>(g() % 2001) - 1000);
            const stage::real_bias bias{biases};
            const auto sum = [&](std::int32_t v, index_t c) {
                return rounded(real(v, c)) + biases[static_cast<std::size_t>(c)];
            };
            check(
                float{}, make_epilogue(w, stage::dequantize{xp, scales}, bias, stage::clamp{-0.5f, 6.0f}),
                [&](std::int32_t v, index_t c) { return std::min(std::max(sum(v, c), -0.5f), 6.0f); },
                [&](std::int32_t v, index_t c) { return sum(v, c) >= -0.5f && sum(v, c) <= 6.0f; });
            check(
                float{}, make_epilogue(w, stage::dequantize{xp, scales}, bias, stage::relu{}),
                [&](std::int32_t v, index_t c) { return std::max(sum(v, c), 0.0f); },
                [&](std::int32_t v, index_t c) { return sum(v, c) > 0.0f; });
            check(
                bfloat16{}, make_epilogue(w, stage::dequantize_bf16{xp, scales}, bias, stage::relu6{}),
                [&](std::int32_t v, index_t c) {
                    return bfloat16{to_bfloat16(std::min(std::max(sum(v, c), 0.0f), 6.0f))};
                },
                [&](std::int32_t v, index_t c) { return sum(v, c) > 0.0f && sum(v, c) <= 6.0f; });
            check(
                std::int32_t{}, make_epilogue(w, stage::accumulators{}), [](std::int32_t v, index_t) { return v; },
                [](std::int32_t, index_t) { return true; });
        }
}

TEST_CASE("add and pooling between guard pages, any length and number of channels") {
    std::mt19937 g(20);
    for (isa i : available_isas())
        for (std::ptrdiff_t n = 0; n <= 200; ++n) {
            guarded<std::uint8_t> a(n), b(n), y(n), before(n, guard::before);
            for (auto& v : a) v = static_cast<std::uint8_t>(g());
            for (auto& v : b) v = static_cast<std::uint8_t>(g());
            std::copy(a.begin(), a.end(), before.begin());
            const add_params p = make_add({0.3f, 12}, {0.02f * static_cast<float>(1 + g() % 99), 200}, {0.4f, 99});
            add(before.span(), b.span(), p, y.span(), context(i));
            int wrong = 0;
            for (std::size_t j = 0; j < y.size(); ++j) wrong += y[j] != ref::add(a[j], b[j], p);
            REQUIRE(wrong == 0);
            if (n == 0) continue;

            const index_t h = 4, width = 5;
            guarded<std::uint8_t> image(h * width * n);
            for (auto& v : image) v = static_cast<std::uint8_t>(g());
            guarded<float> reals(h * width * n);
            for (auto& v : reals) v = static_cast<float>(static_cast<int>(g() % 2001) - 1000);
            const window s = window::square(3, 2, 1);
            const index_t oh = 2, ow = 3;
            guarded<std::uint8_t> out(oh * ow * n), want(oh * ow * n);
            guarded<float> out_f(oh * ow * n), want_f(oh * ow * n);
            std::vector<std::byte> memory(static_cast<std::size_t>(pool_workspace_size(s)));
            const context ctx(i, {}, memory);
            const nhwc_view<const std::uint8_t> x(image.data(), 1, h, width, n);
            const auto equal = [](const auto& u, const auto& v) { return std::equal(u.begin(), u.end(), v.begin()); };
            max_pool(x, s, nhwc_view<std::uint8_t>(out.data(), 1, oh, ow, n), ctx);
            ref::max_pool(x, s, nhwc_view<std::uint8_t>(want.data(), 1, oh, ow, n));
            REQUIRE(equal(out, want));
            const quant_params xq{0.3f, 90}, yq{0.2f, 77};
            average_pool(x, xq, s, yq, nhwc_view<std::uint8_t>(out.data(), 1, oh, ow, n), ctx);
            ref::average_pool(x, xq, s, yq, {0, 255}, nhwc_view<std::uint8_t>(want.data(), 1, oh, ow, n));
            REQUIRE(equal(out, want));
            max_pool(nhwc_view<const float>(reals.data(), 1, h, width, n), s,
                     nhwc_view<float>(out_f.data(), 1, oh, ow, n), ctx);
            ref::max_pool(nhwc_view<const float>(reals.data(), 1, h, width, n), s,
                          nhwc_view<float>(want_f.data(), 1, oh, ow, n));
            REQUIRE(equal(out_f, want_f));
        }
}

TEST_CASE("max pooling of floats keeps the first tap until a later one is larger") {
    // NaN first and later, zeros of both signs, infinities, and windows without any tap.
    const float values[] = {nan_value, -nan_value, 0.0f, -0.0f, inf, -inf, -1.0f, 1e-45f};
    std::mt19937 g(31);
    for (isa i : available_isas())
        for (int trial = 0; trial < 60; ++trial) {
            const index_t h = 4, width = 3, c = 1 + static_cast<index_t>(g() % 40);
            window s = window::square(2, 1, 2);
            s.stride_w = 1 + trial % 2;
            const index_t oh = s.out_h(h), ow = s.out_w(width);
            std::vector<float> x(static_cast<std::size_t>(h * width * c));
            for (float& v : x) v = trial % 3 == 0 ? -inf : values[g() % 8];
            std::vector<float> y(static_cast<std::size_t>(oh * ow * c), 5.0f), want(y.size(), 6.0f);
            std::vector<std::byte> memory(static_cast<std::size_t>(pool_workspace_size(s)));
            const nhwc_view<const float> in(x.data(), 1, h, width, c);
            max_pool(in, s, nhwc_view<float>(y.data(), 1, oh, ow, c), context(i, {}, memory));
            ref::max_pool(in, s, nhwc_view<float>(want.data(), 1, oh, ow, c));
            INFO(to_string(i) << " channels " << c);
            REQUIRE(y[0] == 0.0f);
            REQUIRE(std::memcmp(y.data(), want.data(), 4 * y.size()) == 0);
        }
}

TEST_CASE("average pooling over more taps than 16-bit sums hold") {
    std::mt19937 g(21);
    for (isa i : available_isas())
        for (index_t side : {16, 17, 23, 40}) {
            const index_t channels = 70;
            const std::vector<std::uint8_t> image(static_cast<std::size_t>(side * side * channels), 255);
            std::vector<std::uint8_t> out(static_cast<std::size_t>(channels)), want(out.size());
            const window s = global_window(side, side);
            std::vector<std::byte> memory(static_cast<std::size_t>(pool_workspace_size(s)));
            const nhwc_view<const std::uint8_t> x(image.data(), 1, side, side, channels);
            const quant_params xq{0.3f, static_cast<std::int32_t>(g() % 256)}, yq{0.4f, 3};
            average_pool(x, xq, s, yq, nhwc_view<std::uint8_t>(out.data(), 1, 1, 1, channels), context(i, {}, memory));
            ref::average_pool(x, xq, s, yq, {0, 255}, nhwc_view<std::uint8_t>(want.data(), 1, 1, 1, channels));
            REQUIRE(out == want);
        }
}

TEST_CASE("arrays so large that their results go past the caches, at any alignment", "[slow]") {
    std::mt19937 g(22);
    const std::size_t n = (std::size_t{32} << 20) / 5 + 1000; // see is_streaming in kernels/body/quantize.inl
    const auto x = random_values(g, n, 0.05f);
    std::vector<std::uint8_t> codes(n + 3), want(n), mask(n + 3);
    std::vector<float> values(n + 3);
    for (quant_params p : {quant_params{0.05f, 100}, quant_params{compose(3, -5), 100}}) {
        const channel_layout layout{1, 1, static_cast<index_t>(n)};
        ref::quantize<half_even, std::uint8_t>(x, layout, std::span(&p, 1), {0, 255}, want);
        for (isa i : available_isas())
            for (std::size_t offset : {std::size_t{0}, std::size_t{3}}) {
                const context ctx(i);
                const auto c = std::span(codes).subspan(offset, n), m = std::span(mask).subspan(offset, n);
                const auto v = std::span(values).subspan(offset, n);
                quantize<affine<8>>(x, p, c, ctx);
                REQUIRE(std::equal(want.begin(), want.end(), c.begin()));
                dequantize<std::uint8_t>(want, p, v, ctx);
                int wrong = 0;
                for (std::size_t j = 0; j < n; ++j) wrong += !same(v[j], ref::dequantize(want[j], p));
                REQUIRE(wrong == 0);
                std::fill(codes.begin(), codes.end(), std::uint8_t{});
                std::fill(values.begin(), values.end(), -1.0f);
                fake_quantize<affine<8>>(x, layout, std::span(&p, 1), c, v, m, ctx);
                REQUIRE(std::equal(want.begin(), want.end(), c.begin()));
                for (std::size_t j = 0; j < n; ++j)
                    wrong += !same(v[j], ref::dequantize(want[j], p)) || m[j] != expected(x[j], p, {0, 255}).mask;
                REQUIRE(wrong == 0);
            }
    }
}

TEST_CASE("quantize takes any policy, for all elements of a tensor") {
    std::vector<float> x;
    for (int i = -200; i <= 200; ++i) x.push_back(static_cast<float>(i) * 0.25f);
    x.push_back(NAN);
    x.push_back(INFINITY);
    const quant_params p{0.5f, 100};
    std::vector<std::uint8_t> codes(x.size()), again(x.size());
    const auto check = [&](auto policy) {
        quantize<affine<8>>(x, p, codes, policy);
        index_t wrong = 0;
        for (std::size_t i = 0; i < x.size(); ++i) {
            const float steps = policy.at(static_cast<index_t>(i)).round(x[i] / 0.5f) + 100.0f;
            const float want = std::isnan(steps) ? 100.0f : steps < 0.0f ? 0.0f : steps > 255.0f ? 255.0f : steps;
            wrong += static_cast<float>(codes[i]) != want;
        }
        CHECK(wrong == 0);
        return codes;
    };
    const auto even = check(half_even{});
    CHECK(check(half_away{}) != even);
    CHECK(check(toward_zero{}) != even);
    const auto first = check(stochastic{9});
    CHECK(first == check(stochastic{9}));
    CHECK(first != check(stochastic{10}));
    quantize<affine<8>>(x, p, again);
    CHECK(even == again);
    // With parameters for each channel too.
    const channel_layout layout{13, 31, 1};
    REQUIRE(layout.size() == static_cast<index_t>(x.size()));
    std::vector<quant_params> params(31);
    for (std::size_t c = 0; c < params.size(); ++c)
        params[c] = {0.1f * static_cast<float>(c + 1), static_cast<std::int32_t>(c)};
    quantize<affine<8>>(x, layout, params, codes, half_away{});
    for (std::size_t i = 0; i < x.size(); ++i)
        CHECK(codes[i] == ref::quantize<half_away>(x[i], params[i % 31], {0, 255}));
    CHECK_THROWS_WITH(
        quantize<affine<8>>(x, channel_layout{13, 31, 1}, std::span(params).first(30), codes, half_away{}),
        contains_text("number of params is 30, expected 31"));
}

TEST_CASE("stochastic rounding without branches draws as the reference does") {
    std::mt19937 g(12);
    const auto check = [&]<class Range>(Range, const channel_layout& layout, bool one) {
        std::vector<float> x(static_cast<std::size_t>(layout.size()));
        for (float& v : x) {
            v = std::ldexp(static_cast<float>(static_cast<int>(g() % 20001) - 10000), -static_cast<int>(g() % 24));
            const float special[] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1e-42f, 3e38f, -3e38f, 2.0f, -7.0f};
            if (g() % 8 == 0) v = special[g() % 10];
        }
        std::vector<quant_params> params(one ? 1 : static_cast<std::size_t>(layout.count()));
        for (quant_params& p : params) {
            p.scale = std::ldexp(1.0f + static_cast<float>(g() % 100) / 100.0f, static_cast<int>(g() % 12) - 6);
            if constexpr (Range::has_zero_point)
                p.zero_point =
                    Range::qmin + static_cast<std::int32_t>(g() % static_cast<unsigned>(Range::qmax - Range::qmin + 1));
        }
        std::vector<typename Range::code_type> codes(x.size()), want(x.size());
        const stochastic rounding{std::uint64_t{g()} << 32 | g(), std::uint64_t{g()} << 32 | g()};
        quantize<Range>(x, layout, params, codes, rounding);
        ref::quantize(x, layout, params, {Range::qmin, Range::qmax}, std::span(want), rounding);
        CHECK(codes == want);
    };
    for (const channel_layout& layout :
         {channel_layout{1, 1, 1001}, channel_layout{3, 5, 41}, channel_layout{2, 4, 8}, channel_layout{6, 9, 1},
          channel_layout{4, 3, 7}, channel_layout{2, 3, 20, 1, 2, 8}, channel_layout{0, 3, 9}})
        for (bool one : {false, true}) {
            check(affine<8>{}, layout, one);
            check(symmetric<8>{}, layout, one);
            check(symmetric<4>{}, layout, one);
            check(affine<2>{}, layout, one);
        }
    std::vector<std::uint8_t> few(5);
    const std::vector<float> x(6, 1.0f);
    CHECK_THROWS_WITH(quantize<affine<8>>(x, quant_params{1.0f, 0}, few, stochastic{1}),
                      contains_text("the size of codes is 5, expected 6"));
}
