// SPDX-License-Identifier: Apache-2.0
//
// abs_max, mean_sigma, histogram and percentile against plain code, over random data cut and merged at
// random.
#include "../catch.hpp"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <notch/observe/abs_max.hpp>
#include <notch/observe/mean_sigma.hpp>
#include <notch/observe/min_max.hpp>
#include <notch/observe/moving_average.hpp>
#include <notch/observe/percentile.hpp>

using namespace notch;

namespace {

const float inf = std::numeric_limits<float>::infinity(), not_a_number = std::numeric_limits<float>::quiet_NaN();

/// Values of one kind: normal, one-sided, constant, zero, far from zero, of all magnitudes, with
/// non-finite ones.
std::vector<float> values(int kind, std::size_t n, std::mt19937& g) {
    std::normal_distribution<float> normal;
    std::uniform_real_distribution<float> exponent(-140.0f, 127.0f);
    std::vector<float> x(n);
    for (float& v : x) {
        v = normal(g);
        switch (kind) {
        case 0: break;
        case 1: v = std::max(v, 0.0f); break;
        case 2: v = -3.25f; break;
        case 3: v = g() % 2 ? 0.0f : -0.0f; break;
        case 4: v = 1e6f + v; break;
        case 5: v = std::ldexp(v, static_cast<int>(exponent(g))); break;
        case 6: v = g() % 5 == 0 ? (g() % 3 == 0 ? not_a_number : g() % 2 ? inf : -inf) : v; break;
        default: v = g() % 50 == 0 ? v * 1000 : v; break;
        }
        if (std::isinf(v) && kind == 5) v = FLT_MAX;
    }
    return x;
}
constexpr int kinds = 8;

std::vector<float> finite_of(const std::vector<float>& x) {
    std::vector<float> y;
    std::copy_if(x.begin(), x.end(), std::back_inserter(y), [](float v) { return std::isfinite(v); });
    return y;
}

bool same(const histogram& a, const histogram& b) {
    const histogram_state &s = a.statistics(), &t = b.statistics();
    return s.bins == t.bins && s.exponent == t.exponent && s.first == t.first && s.range == t.range &&
           s.finite == t.finite && s.nonfinite == t.nonfinite &&
           std::equal(s.counts.begin(), s.counts.end(), t.counts.begin());
}

/// Shows x to several observers in pieces, and merges these in a random order and grouping.
template <class O> O in_pieces(const std::vector<float>& x, const O& initial, std::mt19937& g) {
    std::vector<O> parts(1 + g() % 5, initial);
    for (std::size_t at = 0; at < x.size();) {
        const std::size_t n = std::min<std::size_t>(1 + g() % 3000, x.size() - at);
        parts[g() % parts.size()].observe(std::span(x).subspan(at, n));
        at += n;
    }
    while (parts.size() > 1) {
        std::shuffle(parts.begin(), parts.end(), g);
        parts.front().merge(parts.back());
        parts.pop_back();
    }
    return parts.front();
}

} // namespace

TEST_CASE("histogram: however values are cut and merged, each lies in the bin of the final grid") {
    std::mt19937 g(1);
    for (int kind = 0; kind < kinds; ++kind)
        for (int round = 0; round < 12; ++round) {
            const index_t bins = index_t{1} << (4 + g() % 9);
            std::vector<float> x = values(kind, g() % 9000, g);
            histogram whole(bins);
            whole.observe(x);
            const histogram pieces = in_pieces(x, histogram(bins), g);
            CAPTURE(kind, round, bins, x.size());
            REQUIRE(same(whole, pieces));

            const std::vector<float> y = finite_of(x);
            const histogram_state& s = whole.statistics();
            REQUIRE(s.finite == static_cast<std::int64_t>(y.size()));
            REQUIRE(s.nonfinite == static_cast<std::int64_t>(x.size() - y.size()));
            if (y.empty()) continue;
            const auto [lo, hi] = std::minmax_element(y.begin(), y.end());
            REQUIRE(s.range == real_range{*lo, *hi});
            std::vector<std::int64_t> counts(static_cast<std::size_t>(bins));
            const double width = std::ldexp(1.0, s.exponent);
            for (float v : y) {
                const double magnitude = std::floor(std::fabs(static_cast<double>(v)) / width);
                ++counts.at(static_cast<std::size_t>((v < 0.0f ? -1.0 - magnitude : magnitude) - s.first));
            }
            REQUIRE(std::equal(counts.begin(), counts.end(), s.counts.begin()));
            const histogram_view h = whole.view();
            REQUIRE(h.lo <= static_cast<double>(*lo));
            REQUIRE(h.lo + h.width * static_cast<double>(h.counts.size()) >= static_cast<double>(*hi));
            // No finer grid would do, unless it were finer than the 2^-22nd part of the largest magnitude.
            const float magnitude = std::max(-*lo, *hi);
            if (s.exponent > -126 && s.exponent > std::ilogb(magnitude) - 22)
                REQUIRE(detail::bin_of(*hi, s.exponent - 1) - detail::bin_of(*lo, s.exponent - 1) >= bins);
            REQUIRE(same(histogram::restore(s), whole));
        }
}

TEST_CASE(
    "histogram: the mirror image of values has the mirror image of counts, and a power of two shifts the exponent") {
    std::mt19937 g(2);
    std::vector<float> x = values(7, 5000, g), y = x, z = x;
    for (float& v : y) v = -v;
    for (float& v : z) v *= 1024.0f;
    histogram a(512), b(512), c(512);
    a.observe(x);
    b.observe(y);
    c.observe(z);
    const histogram_view h = a.view(), m = b.view(), w = c.view();
    REQUIRE(h.counts.size() == m.counts.size());
    CHECK(h.lo == -(m.lo + m.width * static_cast<double>(m.counts.size())));
    CHECK(std::equal(h.counts.begin(), h.counts.end(), m.counts.rbegin()));
    CHECK(w.width == 1024 * h.width);
    CHECK(w.lo == 1024 * h.lo);
    CHECK(std::equal(h.counts.begin(), h.counts.end(), w.counts.begin(), w.counts.end()));
}

TEST_CASE("histogram: by hand") {
    histogram h(16);
    CHECK(h.view().counts.empty());
    CHECK(h.range().empty());
    CHECK(h.quantile(0.5) == 0.0);
    // 1 and 2 on 16 bins of 2^-3: bins 8 to 16 are nine; of 2^-4 they would be seventeen.
    h.observe(std::vector<float>{1.0f, 2.0f, 1.99f});
    CHECK(h.statistics().exponent == -3);
    CHECK(h.statistics().first == 8);
    CHECK(h.statistics().counts[0] == 1);
    CHECK(h.statistics().counts[7] == 1);
    CHECK(h.statistics().counts[8] == 1);
    // -2 to 2 on bins of 1/4: -2 lies in (-2.25, -2], bin -9, and 2 in bin 8: eighteen, so bins of 1/2.
    h.observe(std::vector<float>{-2.0f, not_a_number});
    CHECK(h.statistics().exponent == -1);
    CHECK(h.statistics().first == -5);
    CHECK(h.view().lo == -2.5);
    const std::int64_t expected[] = {1, 0, 0, 0, 0, 0, 0, 1, 1, 1};
    CHECK(std::equal(std::begin(expected), std::end(expected), h.view().counts.begin(), h.view().counts.end()));
    CHECK(h.nonfinite() == 1);
}

TEST_CASE("histogram: quantiles lie within a bin of the exact ones, and rise") {
    std::mt19937 g(3);
    for (int kind = 0; kind < kinds; ++kind) {
        std::vector<float> x = values(kind, 20001, g), y = finite_of(x);
        std::sort(y.begin(), y.end());
        histogram h(1024);
        h.observe(x);
        const double width = h.view().width;
        double last = -DBL_MAX;
        for (double q : {0.0, 1e-9, 0.001, 0.25, 0.5, 0.9, 0.9999, 1.0}) {
            const double found = h.quantile(q), n = static_cast<double>(y.size());
            const std::size_t rank =
                std::min(y.size() - 1, static_cast<std::size_t>(std::max(0.0, std::ceil(q * n) - 1.0)));
            CAPTURE(kind, q);
            CHECK(std::fabs(found - static_cast<double>(y[rank])) <= width);
            CHECK(found >= last);
            last = found;
        }
        CHECK(h.quantile(1.0) == static_cast<double>(y.back()));
    }
    histogram h;
    CHECK_THROWS_AS(h.quantile(-0.1), error);
    h.observe(std::vector<float>{1.0f});
    CHECK_THROWS_AS(h.quantile(1.5), error);
    CHECK_THROWS_AS(h.quantile(std::nan("")), error);
}

TEST_CASE("percentile: cuts equal parts of both ends") {
    std::vector<float> x(10000);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i) / 10000.0f;
    percentile p(99.0), all(100.0), none;
    p.observe(x);
    all.observe(x);
    CHECK(p.range().min == Approx(0.005).margin(1.0 / 1024));
    CHECK(p.range().max == Approx(0.995).margin(1.0 / 1024));
    CHECK(all.range() == real_range{0.0f, 0.9999f});
    CHECK(none.range().empty());
    std::mt19937 g(4);
    const percentile pieces = in_pieces(x, percentile(99.0), g);
    CHECK(pieces.range() == p.range());
    CHECK_THROWS_AS(percentile(0.0), error);
    CHECK_THROWS_AS(percentile(100.1), error);
    CHECK_THROWS_AS(percentile(std::nan("")), error);
    percentile other(99.0, 64);
    CHECK_THROWS_WITH(p.merge(other), contains_text("number of bins"));
}

TEST_CASE("abs_max and min_max: exact in any order") {
    std::mt19937 g(5);
    for (int kind = 0; kind < kinds; ++kind)
        for (std::size_t n : {0u, 1u, 3u, 4u, 7u, 8u, 9u, 100u, 5000u, 20000u}) {
            const std::vector<float> x = values(kind, n, g), y = finite_of(x);
            float magnitude = 0;
            real_range range;
            for (float v : y) {
                magnitude = std::max(magnitude, std::fabs(v));
                range = {std::min(range.min, v), std::max(range.max, v)};
            }
            const abs_max a = in_pieces(x, abs_max(), g);
            const min_max m = in_pieces(x, min_max(), g);
            CAPTURE(kind, n);
            CHECK(a.magnitude() == magnitude);
            CHECK(a.range() == (y.empty() ? real_range{} : real_range{-magnitude, magnitude}));
            CHECK(m.range() == range);
            for (std::int64_t bad : {a.nonfinite(), m.nonfinite()})
                CHECK(bad == static_cast<std::int64_t>(n - y.size()));
            for (std::int64_t good : {a.finite(), m.finite()}) CHECK(good == static_cast<std::int64_t>(y.size()));
        }
}

TEST_CASE("scan_range: one value that is not finite, anywhere in a long span") {
    std::vector<float> x(20011);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = 1.0f + static_cast<float>(i % 777);
    for (std::size_t at : {0u, 1u, 4095u, 4096u, 4099u, 8191u, 16384u, 20007u, 20010u})
        for (float bad : {not_a_number, inf, -inf}) {
            const float before = std::exchange(x[at], bad);
            const range_scan r = scan_range(x);
            CHECK(r.range == real_range{1.0f, 777.0f});
            CHECK(r.nonfinite == 1);
            x[at] = before;
        }
}

TEST_CASE("mean_sigma: against sums in long double, far from zero too; merge to rounding") {
    std::mt19937 g(6);
    for (int kind = 0; kind < kinds; ++kind)
        for (std::size_t n : {1u, 2u, 5u, 100u, 2048u, 2049u, 30000u}) {
            const std::vector<float> x = values(kind, n, g), y = finite_of(x);
            if (y.empty()) continue;
            long double sum = 0, squares = 0;
            for (float v : y) sum += static_cast<long double>(v);
            const long double count = static_cast<long double>(y.size()), mean = sum / count;
            for (float v : y) squares += (static_cast<long double>(v) - mean) * (static_cast<long double>(v) - mean);
            const double sigma = static_cast<double>(std::sqrt(squares / count));
            mean_sigma whole;
            whole.observe(x);
            const mean_sigma pieces = in_pieces(x, mean_sigma(), g);
            CAPTURE(kind, n, sigma);
            for (const mean_sigma& o : {whole, pieces}) {
                CHECK(std::fabs(o.mean() - static_cast<double>(mean)) <= 1e-6 * sigma);
                CHECK(o.sigma() == Approx(sigma).epsilon(1e-6).margin(0));
                CHECK(o.finite() == static_cast<std::int64_t>(y.size()));
                CHECK(o.nonfinite() == static_cast<std::int64_t>(x.size() - y.size()));
                const auto [lo, hi] = std::minmax_element(y.begin(), y.end());
                CHECK(o.range().min >= *lo);
                CHECK(o.range().max <= *hi);
                CHECK(o.range().min <= o.range().max);
            }
        }
}

TEST_CASE("mean_sigma: by hand") {
    mean_sigma o(1.0f);
    CHECK(o.range().empty());
    o.observe(std::vector<float>{-3.0f, -1.0f, 1.0f, 3.0f}); // mean 0, variance 5
    CHECK(o.range().max == static_cast<float>(std::sqrt(5.0)));
    CHECK(o.range().min == -static_cast<float>(std::sqrt(5.0)));
    mean_sigma behind_relu(3.0f);
    behind_relu.observe(std::vector<float>{0.0f, 0.0f, 0.0f, 4.0f}); // 1 - 3 sqrt(3) is below what was seen
    CHECK(behind_relu.range() == real_range{0.0f, 4.0f});
    mean_sigma constant;
    constant.observe(std::vector<float>(1000, 0.1f));
    constant.merge(constant);
    CHECK(constant.range() == real_range{0.1f, 0.1f});
    CHECK(constant.sigma() == 0.0);
    CHECK(constant.finite() == 2000);
    mean_sigma huge(1.0f);
    huge.observe(std::vector<float>{-FLT_MAX, FLT_MAX});
    CHECK(huge.range() == real_range{-FLT_MAX, FLT_MAX});
    mean_sigma tiny;
    tiny.observe(std::vector<float>{1e-44f, -1e-44f});
    CHECK(tiny.sigma() == Approx(9.80908925e-45).epsilon(1e-6)); // 7 steps of 2^-149
    for (float bad : {0.0f, -1.0f, not_a_number, inf}) CHECK_THROWS_AS(mean_sigma(bad), error);
}

TEST_CASE("channel_observer: any layout, in blocks or at once") {
    std::mt19937 g(7);
    for (const channel_layout& l :
         {channel_layout{1, 5, 40}, {3000, 7, 1}, {37, 3, 200}, {2, 33, 1}, {5, 1, 1000}, {1, 1, 0}, {0, 3, 4}}) {
        const std::vector<float> x = values(6, static_cast<std::size_t>(l.size()), g);
        channel_observer<histogram> h(l.channels, histogram(64));
        channel_observer<moving_average> a(l.channels);
        h.observe(x, l);
        a.observe(x, l);
        for (index_t c = 0; c < l.channels; ++c) {
            std::vector<float> column;
            for (std::size_t i = 0; i < x.size(); ++i)
                if (static_cast<index_t>(i) / l.inner % l.channels == c) column.push_back(x[i]);
            histogram want(64);
            want.observe(column);
            moving_average once;
            once.observe(column);
            CHECK(same(h[c], want));
            CHECK(a.range(c) == once.range()); // one call is one batch
            CHECK(a[c].batches() == once.batches());
        }
    }
    channel_observer<min_max> o(2);
    o.restore(1, min_max::restore({-1.0f, 2.0f}, 5, 1));
    CHECK(o.range(1) == real_range{-1.0f, 2.0f});
    CHECK_THROWS_AS(o.restore(2, min_max()), error);
}

TEST_CASE("counts that no longer fit 64 bits, which only files can claim, are not merged") {
    constexpr std::int64_t most = std::int64_t{1} << 62;
    min_max a = min_max::restore({0.0f, 1.0f}, most - 1, 1), one;
    one.observe(std::vector<float>{0.5f});
    CHECK_THROWS_AS(a.merge(one), error);
    CHECK(a.finite() == most - 1);
    abs_max b = abs_max::restore(1.0f, 1, most - 1), c;
    c.observe(std::vector<float>{0.5f});
    CHECK_THROWS_AS(b.merge(c), error);
    moving_average d = moving_average::restore(0.5f, {0.0f, 1.0f}, most, 0), e;
    e.observe(std::vector<float>{0.5f});
    CHECK_THROWS_AS(d.merge(e), error);
    mean_sigma f = mean_sigma::restore(1.0f, {{0.0f, 1.0f}, most, 0, 0.5, 1.0}), g;
    g.observe(std::vector<float>{0.5f});
    CHECK_THROWS_AS(f.merge(g), error);
}

TEST_CASE("restore refuses what no observer can have seen") {
    CHECK(min_max::restore({}, 0, 3).nonfinite() == 3);
    CHECK_THROWS_AS(min_max::restore({1.0f, 0.0f}, 2, 0), error);
    CHECK_THROWS_AS(min_max::restore({not_a_number, 0.0f}, 2, 0), error);
    CHECK_THROWS_AS(min_max::restore({0.0f, inf}, 2, 0), error);
    CHECK_THROWS_AS(min_max::restore({0.0f, 1.0f}, 0, 0), error);
    CHECK_THROWS_AS(min_max::restore({0.0f, 1.0f}, -1, 0), error);
    CHECK_THROWS_AS(min_max::restore({0.0f, 1.0f}, 1, 0), error); // one value is both bounds
    CHECK(min_max::restore({1.0f, 1.0f}, 1, 0).range() == real_range{1.0f, 1.0f});
    CHECK(moving_average::restore(0.5f, {0.0f, 1.0f}, 1, 0).range() == real_range{0.0f, 1.0f}); // one batch
    CHECK_THROWS_AS(mean_sigma::restore(1.0f, {{0.0f, 1.0f}, 1, 0, 0.5, 0.1}), error);
    CHECK_THROWS_AS(abs_max::restore(-1.0f, 2, 0), error);
    CHECK_THROWS_AS(abs_max::restore(not_a_number, 2, 0), error);
    CHECK_THROWS_AS(abs_max::restore(1.0f, 0, 0), error);
    CHECK_THROWS_AS(abs_max::restore(1.0f, 1, -1), error);
    CHECK(moving_average::restore(0.5f, {0.0f, 1.0f}, 2, 0).range() == real_range{0.0f, 1.0f});
    CHECK_THROWS_AS(moving_average::restore(1.5f, {0.0f, 1.0f}, 2, 0), error);
    CHECK_THROWS_AS(moving_average::restore(0.5f, {}, 2, 0), error);
    moments m{{0.0f, 1.0f}, 4, 0, 0.5, 1.0};
    CHECK(mean_sigma::restore(2.0f, m).sigma() == 0.5);
    for (double bad : {-1.0, 2.0, std::nan("")}) {
        moments mean = m, m2 = m;
        mean.mean = bad;
        m2.m2 = -std::fabs(bad);
        CHECK_THROWS_AS(mean_sigma::restore(2.0f, mean), error);
        CHECK_THROWS_AS(mean_sigma::restore(2.0f, m2), error);
    }
    m.m2 = 1.01; // four values in [0, 1] have at most 1
    CHECK_THROWS_AS(mean_sigma::restore(2.0f, m), error);
    // Whatever an observer has seen can be restored.
    std::mt19937 random(3);
    for (int i = 0; i < 200; ++i) {
        mean_sigma seen(2.0f);
        const float base =
            std::ldexp(1.0f + static_cast<float>(random() % 100) / 99.0f, static_cast<int>(random() % 240) - 120);
        std::vector<float> x(1 + random() % 50, random() % 2 ? base : -base);
        if (i % 2)
            for (float& v : x) v = random() % 2 ? base : -base; // the largest squares for a range
        seen.observe(x);
        CHECK_NOTHROW(mean_sigma::restore(2.0f, seen.statistics()));
    }
    histogram h(16);
    h.observe(std::vector<float>{1.0f, 2.0f, 3.0f});
    const auto refused = [&](auto&& change) {
        histogram_state s = h.statistics();
        change(s);
        CHECK_THROWS_AS(histogram::restore(s), error);
    };
    refused([](histogram_state& s) { s.bins = 15; });
    refused([](histogram_state& s) { s.bins = 32; });
    refused([](histogram_state& s) { s.exponent += 1; });
    refused([](histogram_state& s) { s.first -= 1; });
    refused([](histogram_state& s) { s.range.max = 3.5f; });
    refused([](histogram_state& s) { s.finite += 1; });
    refused([](histogram_state& s) { s.counts[0] = -1; });
    refused([](histogram_state& s) { s.counts[0] += 1; });
    refused([](histogram_state& s) { std::swap(s.counts[0], s.counts[15]); });
    refused([](histogram_state& s) { s.counts[3] = std::numeric_limits<std::int64_t>::max(); });
    refused([](histogram_state& s) { s.counts = buffer<std::int64_t>(3); });
    CHECK_THROWS_WITH(histogram(15), contains_text("15 bins"));
    CHECK_THROWS_AS(histogram(-1), error);
    CHECK_THROWS_AS(histogram((index_t{1} << 20) + 1), error);
}
