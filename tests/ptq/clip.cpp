// SPDX-License-Identifier: Apache-2.0
//
// Ranges from statistics: by hand, against plain loops, and on the histograms of other libraries.
#include "../golden/golden.hpp"

#include <array>
#include <cmath>
#include <limits>
#include <random>

#include <notch/observe/min_max.hpp>
#include <notch/observe/moving_average.hpp>
#include <notch/ptq/calibrate.hpp>
#include <notch/ref/quantize.hpp>

using namespace notch;

namespace {

const float nan_value = std::numeric_limits<float>::quiet_NaN();

std::vector<float> normal_values(std::size_t n, unsigned seed, float mean = 0, float sigma = 1) {
    std::mt19937 g(seed);
    std::normal_distribution<float> d(mean, sigma);
    std::vector<float> x(n);
    for (float& v : x) v = d(g);
    return x;
}

double plain_error(const std::vector<float>& x, quant_params p, code_range r, double power) {
    double sum = 0;
    for (float v : x) {
        const double q = static_cast<double>(ref::quantize(v, p, r) - p.zero_point) * static_cast<double>(p.scale);
        sum += std::pow(std::fabs(static_cast<double>(v) - q), power);
    }
    return sum;
}

} // namespace

TEST_CASE("percentiles of values are those of NumPy") {
    const golden::numbers g("calibration_numpy");
    for (const std::string name : {"two", "relu"}) {
        std::vector<float> x = golden::sample(20000, name == "two" ? 1 : 2, name == "relu");
        x.insert(x.begin() + 77, {nan_value, std::numeric_limits<float>::infinity()});
        for (const double percent : {99.99, 99.0, 73.5}) {
            const std::string text = detail::cat(percent);
            CAPTURE(name, percent);
            const real_range r = percentile_range(std::span<const float>(x), percent);
            CHECK(r.min == static_cast<float>(g[name + ".percentile." + text][0]));
            CHECK(r.max == static_cast<float>(g[name + ".percentile." + text][1]));
            CHECK(percentile_magnitude(std::span<const float>(x), percent) ==
                  static_cast<float>(g.one(name + ".magnitude." + text)));
        }
    }
    const std::vector<float> one{3.0f}, none{nan_value};
    CHECK(percentile_range(std::span<const float>(one), 50) == real_range{3.0f, 3.0f});
    CHECK(percentile_range(std::span<const float>(none), 50).empty());
    CHECK(percentile_magnitude(std::span<const float>(none), 50) == 0.0f);
}

TEST_CASE("percentiles of a histogram: ONNX Runtime takes the lower edge of the same bin") {
    const golden::numbers g("calibration_onnxruntime");
    for (const std::string name : {"two", "relu"})
        for (const bool symmetric : {false, true}) {
            const std::string key = name + (symmetric ? ".percentile.symmetric" : ".percentile");
            const std::vector<std::int64_t> counts = g.integers(key + ".counts");
            const double lo = symmetric ? 0 : g[key + ".edges"][0], hi = g[key + ".edges"][1];
            const double width = (hi - lo) / static_cast<double>(counts.size());
            const histogram_view h{lo, width, counts, {static_cast<float>(lo), static_cast<float>(hi)}};
            CAPTURE(key);
            // theirs = edge[k], ours = edge[k] + width * (part of bin k), 0 < part <= 1; edges are floats there,
            // and in one case the first one is not 0 but the least magnitude.
            const double slack = 1e-4;
            const auto in_bin = [&](float ours, double theirs) {
                CHECK(static_cast<double>(ours) >= theirs - slack);
                CHECK(static_cast<double>(ours) <= theirs + width + slack);
            };
            if (symmetric) {
                in_bin(percentile_magnitude(h, 98.765), g[key][1]);
            } else {
                const real_range r = percentile_range(h, 98.765);
                if (name == "two")
                    in_bin(r.min, g[key][0]);
                else
                    CHECK(g[key][0] == 0.0); // they cut at the minimum
                in_bin(r.max, g[key][1]);
            }
        }
}

TEST_CASE("entropy: index and divergence of the published algorithm in NumPy") {
    const golden::numbers g("calibration_numpy");
    for (const std::string name : {"two", "relu"})
        for (const index_t levels : {32, 128}) {
            const std::vector<std::int64_t> seen = g.integers(name + ".bins");
            const std::vector<double>& want = g[name + ".entropy." + detail::cat(levels)];
            std::vector<std::int64_t> bins = seen;
            bins[0] = bins[1];
            double total = 0, beyond = 0;
            for (std::size_t i = 0; i < bins.size(); ++i) {
                total += static_cast<double>(bins[i]);
                if (static_cast<double>(i) >= want[0]) beyond += static_cast<double>(bins[i]);
            }
            CAPTURE(name, levels);
            CHECK(detail::divergence(bins, static_cast<index_t>(want[0]), levels, beyond, total) ==
                  Approx(want[1]).epsilon(1e-12));
            const double width = 20.0 / 1024;
            const float found = entropy_magnitude(histogram_view{0, width, seen, {0.0f, 20.0f}}, levels);
            CHECK(found == static_cast<float>(std::min((want[0] + 0.5) * width, 20.0)));
        }
}

TEST_CASE("entropy: the example of the publication, and mirrored values") {
    // P = 1 0 2 3 5 3 1 7 on two levels: Q = 2 0 2 2 4 4 4 4, both of sum 22.
    const std::vector<std::int64_t> bins{1, 0, 2, 3, 5, 3, 1, 7};
    const double p[] = {1, 0, 2, 3, 5, 3, 1, 7}, q[] = {2, 0, 2, 2, 4, 4, 4, 4};
    double want = 0;
    for (int i = 0; i < 8; ++i)
        if (p[i] > 0) want += p[i] / 22 * std::log(p[i] / q[i]);
    CHECK(detail::divergence(bins, 8, 2, 0, 22) == Approx(want).epsilon(1e-14));
    // Five bins of two levels: bins 0 1 2 and 3 4 (floor(j * 2 / 5)); 11 beyond go to P only.
    const double p5[] = {1, 0, 2, 3, 5 + 11}, q5[] = {1.5, 0, 1.5, 4, 4};
    want = 0;
    for (int i = 0; i < 5; ++i)
        if (p5[i] > 0) want += p5[i] / 22 * std::log(p5[i] / 22 / (q5[i] / 11));
    CHECK(detail::divergence(bins, 5, 2, 11, 22) == Approx(want).epsilon(1e-14));
    CHECK(std::isinf(detail::divergence(bins, 2, 2, 21, 22))); // Q is 0 where P has what lies beyond

    const std::vector<float> x = normal_values(50000, 1);
    std::vector<float> y = x;
    for (float& v : y) v = -v;
    histogram a(4096), b(4096);
    a.observe(x);
    b.observe(y);
    const float bound = entropy_magnitude(a.view(), 128);
    CHECK(bound == entropy_magnitude(b.view(), 128));
    CHECK(bound > 2.5f);
    CHECK(bound < 4.7f);
}

TEST_CASE("entropy: zeros, whose code is exact whatever the range, do not draw the range towards them") {
    std::vector<float> x = normal_values(20000, 3);
    for (float& v : x) v = std::fabs(v);
    histogram without(4096), with(4096);
    without.observe(x);
    with.observe(x);
    with.observe(std::vector<float>(40000, 0.0f)); // behind a ReLU
    for (const index_t levels : {128, 256}) {
        CHECK(entropy_magnitude(with.view(), levels) == entropy_magnitude(without.view(), levels));
        CHECK(entropy_magnitude(with.view(), levels) > 2.0f);
    }
    CHECK(calibrate<affine<8>>(with, clip::entropy()) == calibrate<affine<8>>(without, clip::entropy()));
}

TEST_CASE("entropy: one outlier does not stretch the range; few bins or one value leave it as it is") {
    std::vector<float> x = normal_values(20000, 2);
    histogram plain(8192), far(8192);
    plain.observe(x);
    x[7] = 40.0f;
    far.observe(x);
    CHECK(entropy_magnitude(far.view(), 128) < 8.0f);
    histogram few(64);
    few.observe(x);
    CHECK(entropy_magnitude(few.view(), 128) == 40.0f);
    for (const float value : {0.0f, -3.0f, 1e-30f}) {
        histogram constant;
        constant.observe(std::vector<float>(100, value));
        CHECK(entropy_magnitude(constant.view(), 128) == std::fabs(value));
    }
    CHECK(entropy_magnitude(histogram().view(), 128) == 0.0f);
    // Four, five and six bins lose nothing: the widest is taken.
    const std::vector<std::int64_t> ties{1, 1, 1, 1, 0, 0};
    CHECK(entropy_magnitude(histogram_view{0, 1, ties, {0.0f, 6.0f}}, 2) == 6.0f);
    CHECK_THROWS_WITH(entropy_magnitude(plain.view(), 1), contains_text("1 levels"));
}

TEST_CASE("quantization error of values is that of ref::quantize") {
    std::mt19937 g(3);
    std::vector<float> x = normal_values(3000, 3);
    for (const quant_params p : {quant_params{0.013f, 0}, {0.1f, 37}, {3.0f, 255}, {1e-3f, 128}})
        for (const double power : {2.0, 1.0, 2.4, 0.5}) {
            CAPTURE(p.scale, power);
            CHECK(quantization_error(std::span<const float>(x), p, {0, 255}, power) ==
                  Approx(plain_error(x, p, {0, 255}, power)).epsilon(1e-6));
        }
    const std::vector<float> ties{0.5f, 1.5f, -0.5f, 2.5f, nan_value};
    CHECK(quantization_error(std::span<const float>(ties), {1.0f, 0}, {-8, 7}) == 1.0);
}

TEST_CASE("quantization error of a histogram: the integral, by many points") {
    const std::vector<std::int64_t> counts{3, 0, 5, 7, 1};
    const histogram_view h{-0.8, 0.5, counts, {-0.8f, 1.7f}};
    for (const quant_params p : {quant_params{0.3f, 2}, {1.0f, 1}, {0.07f, 5}})
        for (const double power : {2.0, 1.0, 3.3}) {
            double want = 0;
            constexpr int points = 20000;
            for (std::size_t i = 0; i < counts.size(); ++i)
                for (int k = 0; k < points; ++k) {
                    const double from = std::max(-0.8 + 0.5 * static_cast<double>(i), static_cast<double>(h.range.min));
                    const double to =
                        std::min(-0.8 + 0.5 * static_cast<double>(i + 1), static_cast<double>(h.range.max));
                    const double v = from + (to - from) * (k + 0.5) / points;
                    const double q =
                        static_cast<double>(ref::quantize(static_cast<float>(v), p, {0, 7}) - p.zero_point) *
                        static_cast<double>(p.scale);
                    want += static_cast<double>(counts[i]) * std::pow(std::fabs(v - q), power) / points;
                }
            CAPTURE(p.scale, power);
            CHECK(quantization_error(h, p, {0, 7}, power) == Approx(want).epsilon(1e-4));
        }
    // One value, 0.3 from its code.
    histogram one;
    one.observe(std::vector<float>(10, 2.3f));
    CHECK(quantization_error(one.view(), {1.0f, 0}, {0, 15}) == Approx(10 * 0.09).epsilon(1e-6));
}

TEST_CASE("quantization error of a histogram is the norm of torch's HistogramObserver") {
    // torch cuts [begin, end] into 256 steps of width s and takes the middle of a step for its values. With
    // the origin moved to the first middle these are the codes 0 ... 255 of scale s and zero point 0.
    const golden::numbers g("calibration_torch");
    for (const std::string name : {"two", "relu"}) {
        const std::vector<std::int64_t> counts = g.integers(name + ".histogram.counts");
        const double min = g[name + ".histogram.range"][0], max = g[name + ".histogram.range"][1];
        const double width = (max - min) / 256;
        for (const auto& [begin, end] : {std::pair{0, 255}, {0, 200}, {10, 180}, {60, 190}, {100, 160}}) {
            const auto s = static_cast<float>(width * (end - begin + 1) / 256);
            const double lo = -begin * width - 0.5 * static_cast<double>(s);
            const histogram_view h{lo, width, counts, {static_cast<float>(lo), static_cast<float>(lo + 256 * width)}};
            CAPTURE(name, begin, end);
            // torch adds up in float; with (0, 255) a bin is a step, and both ends are rounded off.
            CHECK(quantization_error(h, {s, 0}, {0, 255}) ==
                  Approx(g.one(detail::cat(name, ".histogram.error.", begin, ".", end))).epsilon(2e-5));
        }
        // Their search is greedy, ours goes on: it may not end with a larger error.
        const histogram_view h{min, width, counts, {static_cast<float>(min), static_cast<float>(max)}};
        const real_range theirs{static_cast<float>(g[name + ".histogram.searched"][0]),
                                static_cast<float>(g[name + ".histogram.searched"][1])};
        using u8 = affine<8>;
        const double ours = quantization_error(h, params_from_range<u8>(least_error_range<u8>(h)), {0, 255});
        CHECK(ours <= quantization_error(h, params_from_range<u8>(theirs), {0, 255}));
    }
}

TEST_CASE("least error: the best of all candidates; an affine range at least a local one") {
    std::vector<float> x = normal_values(400, 4);
    x[3] = 9.0f;
    const auto values = std::span<const float>(x);
    using s4 = symmetric<4>;
    const real_range r = least_error_range<s4>(values, 2.0, 100);
    double least = std::numeric_limits<double>::infinity();
    for (int k = 1; k <= 100; ++k) {
        const auto bound = static_cast<float>(9.0 * (k / 100.0));
        least = std::min(least, plain_error(x, params_from_range<s4>({-bound, bound}), {-7, 7}, 2.0));
    }
    CHECK(plain_error(x, params_from_range<s4>(r), {-7, 7}, 2.0) == Approx(least).epsilon(1e-6));
    CHECK(r.max < 7.0f);

    using u4 = affine<4>;
    const real_range a = least_error_range<u4>(values, 2.0, 50);
    const double found = quantization_error(values, params_from_range<u4>(a), {0, 15});
    const min_max seen = [&] {
        min_max m;
        m.observe(x);
        return m;
    }();
    for (int k = 0; k <= 50; ++k) {
        const auto share = static_cast<double>(k) / 50;
        const real_range moved[] = {{static_cast<float>(static_cast<double>(seen.range().min) * share), a.max},
                                    {a.min, static_cast<float>(static_cast<double>(seen.range().max) * share)}};
        for (const real_range& m : moved)
            CHECK(quantization_error(values, params_from_range<u4>(m), {0, 15}) >= found * (1 - 1e-12));
    }
    // Values that a grid holds exactly need no cutting.
    const std::vector<float> exact{-7.0f, 3.0f, 7.0f, 0.0f, 1.0f};
    CHECK(least_error_range<s4>(std::span<const float>(exact)) == real_range{-7.0f, 7.0f});
    // A smaller power cares less for outliers.
    CHECK(least_error_range<s4>(values, 1.0).max <= least_error_range<s4>(values, 4.0).max);
}

TEST_CASE("calibrate: every method on every kind of data gives valid parameters, from a histogram and from values") {
    const auto check = [](std::vector<float> x, auto range) {
        using R = decltype(range);
        histogram h(1024);
        h.observe(x);
        for (const clip& how :
             {clip::min_max(), clip::percentile(99.9), clip::entropy(), clip::error(2.0, 16), clip::error(2.4, 8)}) {
            quant_params from_values;
            calibrate<R>(x, {1, 1, static_cast<index_t>(x.size())}, how, {&from_values, 1});
            for (const quant_params& p : {calibrate<R>(h, how), from_values}) {
                CHECK(p.scale > 0.0f);
                CHECK(std::isfinite(p.scale));
                CHECK(p.zero_point >= R::qmin);
                CHECK(p.zero_point <= R::qmax);
            }
            const real_range r = clip_range<R>(h.view(), how);
            if (h.finite() == 0)
                CHECK(r.empty());
            else
                CHECK(r.min <= r.max);
        }
    };
    const std::vector<std::vector<float>> kinds = {{},
                                                   {nan_value},
                                                   {0.0f, -0.0f},
                                                   {5.0f, 5.0f},
                                                   {-5.0f},
                                                   normal_values(300, 5),
                                                   normal_values(300, 6, 1e4f),
                                                   normal_values(300, 7, -50.0f),
                                                   {FLT_MAX, -FLT_MAX, 1.0f},
                                                   {1e-44f, 3e-44f},
                                                   {0.0f, 1.0f, nan_value, std::numeric_limits<float>::infinity()}};
    for (const auto& x : kinds) {
        check(x, affine<8>{});
        check(x, symmetric<4>{});
        check(x, affine_signed<8>{});
        check(x, affine<1>{});
        check(x, symmetric<2>{});
    }
}

TEST_CASE("calibrate: per channel on any axis, and what clips is what the method says") {
    const std::vector<float> x = normal_values(6 * 5 * 7, 8);
    std::vector<quant_params> p(5);
    const channel_layout l{6, 5, 7};
    calibrate<symmetric<4>>(x, l, clip::error(2.0, 20), p);
    for (index_t c = 0; c < 5; ++c) {
        std::vector<float> channel;
        for (std::size_t i = 0; i < x.size(); ++i)
            if (static_cast<index_t>(i) / 7 % 5 == c) channel.push_back(x[i]);
        const auto r = least_error_range<symmetric<4>>(std::span<const float>(channel), 2.0, 20);
        CHECK(p[static_cast<std::size_t>(c)] == params_from_range<symmetric<4>>(r));
    }
    std::vector<quant_params> wrong(4);
    CHECK_THROWS_WITH((calibrate<symmetric<4>>(x, l, {}, wrong)), contains_text("number of params"));
    CHECK_THROWS_WITH((calibrate<symmetric<4>>(std::span(x).first(3), l, {}, p)), contains_text("size of x"));

    histogram h;
    h.observe(x);
    const auto [lo, hi] = std::minmax_element(x.begin(), x.end());
    CHECK(clip_range<affine<8>>(h.view(), clip::min_max()) == real_range{*lo, *hi});
    CHECK(clip_range<affine<8>>(h.view(), clip::percentile(100)) == real_range{*lo, *hi});
    CHECK(clip_range<symmetric<8>>(h.view(), clip::percentile(100)).max == std::max(-*lo, *hi));
    // One-sided values have all codes for their one side.
    histogram relu(4096);
    relu.observe(golden::sample(20000, 2, true));
    CHECK(clip_range<affine<8>>(relu.view(), clip::entropy()) == real_range{0.0f, entropy_magnitude(relu.view(), 256)});
}

TEST_CASE("observers and min-max parameters are those of torch") {
    const golden::numbers g("calibration_torch");
    for (const std::string name : {"two", "relu"}) {
        min_max whole;
        moving_average average(0.75f);
        channel_observer<min_max> channels(10);
        for (std::uint32_t seed : {1u, 2u, 3u}) {
            const auto x = golden::sample(5000, seed, name == "relu");
            whole.observe(x);
            average.observe(x);
            channels.observe(x, {500, 10, 1});
        }
        const auto range = [&](const std::string& key, std::size_t c = 0) {
            return real_range{static_cast<float>(g[name + key][2 * c]), static_cast<float>(g[name + key][2 * c + 1])};
        };
        CHECK(whole.range() == range(".min_max.range"));
        // torch writes average + c * (batch - average), which rounds elsewhere.
        CHECK(average.range().min == Approx(range(".moving_average.range").min).epsilon(2e-7));
        CHECK(average.range().max == Approx(range(".moving_average.range").max).epsilon(2e-7));
        const auto same = [&](quant_params p, const std::string& key, std::size_t c = 0) {
            CHECK(static_cast<double>(p.scale) == Approx(g[name + key + ".scale"][c]).epsilon(1.2e-7));
            CHECK(p.zero_point == static_cast<std::int32_t>(g[name + key + ".zero_point"][c]));
        };
        same(params_from_range<affine<8>>(whole.range()), ".min_max");
        same(params_from_range<symmetric<8>>(whole.range()), ".min_max_s");
        same(params_from_range<affine<8>>(range(".moving_average.range")), ".moving_average");
        for (std::size_t c = 0; c < 10; ++c) {
            CHECK(channels.range(static_cast<index_t>(c)) == range(".channel.range", c));
            same(params_from_range<affine<8>>(channels.range(static_cast<index_t>(c))), ".channel", c);
        }
    }
}

TEST_CASE("bad input is named") {
    const std::vector<std::int64_t> counts{1, 2}, negative{1, -1}, zeros{0, 0};
    const real_range r{0.0f, 2.0f};
    CHECK_THROWS_WITH(percentile_range(histogram_view{0, 1, counts, r}, 0.0), contains_text("percent is 0"));
    CHECK_THROWS_WITH(percentile_range(histogram_view{0, 1, counts, r}, std::nan("")), contains_text("percent"));
    CHECK_THROWS_WITH(percentile_range(histogram_view{0, 0, counts, r}, 50), contains_text("width 0"));
    CHECK_THROWS_WITH(percentile_range(histogram_view{std::nan(""), 1, counts, r}, 50), contains_text("nan"));
    CHECK_THROWS_WITH(percentile_range(histogram_view{0, 1, negative, r}, 50), contains_text("-1 values"));
    CHECK_THROWS_WITH(percentile_range(histogram_view{0, 1, zeros, r}, 50), contains_text("all counts are 0"));
    CHECK_THROWS_WITH(percentile_range(histogram_view{0, 1, counts, {}}, 50), contains_text("range"));
    CHECK_THROWS_WITH(percentile_range(histogram_view{0, 1, {}, r}, 50), contains_text("no bins"));
    CHECK_THROWS_WITH(percentile_magnitude(histogram_view{0.5, 1, counts, r}, 50), contains_text("0 between two bins"));
    CHECK_THROWS_WITH(percentile_magnitude(histogram_view{1e20, 1, counts, r}, 50), contains_text("too fine"));
    CHECK_THROWS_WITH(quantization_error(histogram_view{0, 1, counts, r}, {0.0f, 0}, {0, 255}), contains_text("scale"));
    CHECK_THROWS_WITH(quantization_error(histogram_view{0, 1, counts, r}, {1.0f, 300}, {0, 255}),
                      contains_text("zero_point"));
    CHECK_THROWS_WITH(quantization_error(histogram_view{0, 1, counts, r}, {1.0f, 0}, {0, 255}, -1.0),
                      contains_text("power"));
    CHECK_THROWS_WITH((least_error_range<affine<8>>(histogram_view{0, 1, counts, r}, 2.0, 1)), contains_text("steps"));
}

TEST_CASE("calibrate: a pair of parameters for each group of a row") {
    const std::vector<float> x = {1.0f, -2.0f, 0.5f, 0.25f, 4.0f, 3.0f, -7.0f, 0.0f};
    const channel_layout layout = layout_of<per_group<2>>(std::array<index_t, 2>{2, 4});
    std::vector<quant_params> p(4);
    calibrate<symmetric<4>>(x, layout, {}, p);
    const float largest[] = {2.0f, 0.5f, 4.0f, 7.0f};
    for (std::size_t i = 0; i < 4; ++i) CHECK(p[i].scale == largest[i] / 7.0f);
}
