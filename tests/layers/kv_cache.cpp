// SPDX-License-Identifier: Apache-2.0
//
// A cache of keys and values in 8 bits: attention over it against the formulas of the header, bit for bit on every
// instruction set and for any number of threads, and against attention in double on the stored codes with the error
// that the header states; by hand, extremes, refusals.
#include "../catch.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <notch/layers/kv_cache.hpp>

#include "../kernels/team.hpp"

using namespace notch;

namespace {

using floats = std::vector<float>;

floats random_floats(std::mt19937& g, index_t n, float spread) {
    std::normal_distribution<float> d(0.0f, spread);
    floats x(static_cast<std::size_t>(n));
    for (float& v : x) v = d(g);
    return x;
}

floats attend(const kv_cache& c, const floats& q, const context& base = {}) {
    std::vector<std::byte> memory(static_cast<std::size_t>(c.workspace_size(base)));
    floats y(q.size(), 7.0f);
    c.attend(q, y, context(base.target, base.executor, memory));
    return y;
}

/// The codes that the cache stores instead of x, heads of size each, and their scales.
struct stored {
    std::vector<std::int8_t> codes;
    std::vector<quant_params> params;
    index_t size;

    stored(const floats& x, index_t head_size)
        : codes(x.size()), params(x.size() / static_cast<std::size_t>(head_size)), size(head_size) {
        for (std::size_t r = 0; r < params.size(); ++r) {
            const auto length = static_cast<std::size_t>(size);
            const std::span<const float> row(x.data() + r * length, length);
            params[r] = params_from_range<symmetric<8>>(value_range(row, context(isa::scalar)));
            ref::quantize(row, {1, 1, size}, {&params[r], 1}, {-127, 127},
                          std::span(codes).subspan(r * length, length));
        }
    }
    [[nodiscard]] std::int64_t code(index_t row, index_t d) const {
        return codes[static_cast<std::size_t>(row * size + d)];
    }
    [[nodiscard]] double scale(index_t row) const {
        return static_cast<double>(params[static_cast<std::size_t>(row)].scale);
    }
    [[nodiscard]] double value(index_t row, index_t d) const { return static_cast<double>(code(row, d)) * scale(row); }
};

struct problem {
    kv_cache_spec spec;
    index_t keys = 0;
    floats q, k, v;

    problem(std::mt19937& g, index_t kv_heads, index_t queries, index_t size, index_t keys_, float spread)
        : keys(keys_) {
        spec.heads = kv_heads * queries;
        spec.kv_heads = kv_heads;
        spec.head_size = size;
        spec.capacity = keys + static_cast<index_t>(g() % 20);
        q = random_floats(g, spec.heads * size, spread);
        k = random_floats(g, keys * kv_heads * size, spread);
        v = random_floats(g, keys * kv_heads * size, 1.0f);
        for (index_t j = 0; j < keys; j += 5) // tokens of quite another size
            for (index_t d = 0; d < kv_heads * size; ++d) v[static_cast<std::size_t>(j * kv_heads * size + d)] *= 0.01f;
    }
    [[nodiscard]] matrix_view<const float> rows(const floats& x) const {
        return {x.data(), keys, spec.kv_heads * spec.head_size};
    }
    [[nodiscard]] kv_cache filled(const context& ctx = {}) const {
        kv_cache c(spec);
        c.append(rows(k), rows(v), ctx);
        return c;
    }
    [[nodiscard]] double scale() const {
        return static_cast<double>(
            spec.scale > 0 ? spec.scale : static_cast<float>(1.0 / std::sqrt(static_cast<double>(spec.head_size))));
    }
    [[nodiscard]] std::span<const float> query(index_t h) const {
        return std::span(q).subspan(static_cast<std::size_t>(h * spec.head_size),
                                    static_cast<std::size_t>(spec.head_size));
    }

    /// The formulas of the header, one number at a time.
    [[nodiscard]] floats by_definition() const {
        const index_t size = spec.head_size, group = spec.heads / spec.kv_heads;
        const stored ks(k, size), vs(v, size);
        const auto count = static_cast<std::size_t>(keys);
        floats y;
        for (index_t h = 0; h < spec.heads; ++h) {
            const quant_params p = params_from_range<symmetric<16>>(value_range(query(h), context(isa::scalar)));
            std::vector<std::int16_t> codes(query(h).size());
            ref::quantize(query(h), {1, 1, size}, {&p, 1}, {-32767, 32767}, std::span(codes));
            const double factor = static_cast<double>(p.scale) * scale() * 47274.23109984955;
            std::vector<std::int64_t> t(count), e(count), w(count);
            std::int64_t sum = 0;
            double largest = 0;
            const auto row = [&](std::size_t j) { return static_cast<index_t>(j) * spec.kv_heads + h / group; };
            for (std::size_t j = 0; j < count; ++j) {
                std::int64_t s = 0;
                for (index_t d = 0; d < size; ++d) s += codes[static_cast<std::size_t>(d)] * ks.code(row(j), d);
                t[j] = static_cast<std::int64_t>(
                    std::clamp(static_cast<double>(s) * (factor * ks.scale(row(j))), -0x1p30, 0x1p30));
            }
            for (std::size_t j = 0; j < count; ++j) {
                const std::int64_t u = *std::max_element(t.begin(), t.end()) - t[j];
                e[j] = u / 32768 > 30 ? 0 : detail::exp2_q30(static_cast<std::int32_t>(u % 32768)) >> (u / 32768);
                sum += e[j];
                largest = std::max(largest, static_cast<double>(e[j]) * vs.scale(row(j)));
            }
            for (std::size_t j = 0; j < count; ++j) {
                const double x = static_cast<double>(e[j]) * vs.scale(row(j)) * (131070.0 / largest);
                w[j] = (static_cast<std::int64_t>(x) + 1) / 2;
            }
            for (index_t d = 0; d < size; ++d) {
                std::int64_t a = 0;
                for (std::size_t j = 0; j < count; ++j) a += w[j] * vs.code(row(j), d);
                const double unit = largest / 65535.0 / static_cast<double>(sum);
                y.push_back(keys == 0 ? 0.0f : static_cast<float>(static_cast<double>(a) * unit));
            }
        }
        return y;
    }

    /// The largest error against attention in double on the stored codes beyond what the header allows; at most 0 if
    /// that holds.
    [[nodiscard]] double beyond_bound(const floats& y) const {
        const index_t size = spec.head_size, group = spec.heads / spec.kv_heads;
        const stored ks(k, size), vs(v, size);
        const auto count = static_cast<std::size_t>(keys);
        double worst = -1e9;
        for (index_t h = 0; h < spec.heads; ++h) {
            const auto row = [&](std::size_t j) { return static_cast<index_t>(j) * spec.kv_heads + h / group; };
            double q_scale = 0;
            for (float x : query(h)) q_scale = std::max(q_scale, std::fabs(static_cast<double>(x)) / 32767);
            std::vector<double> s(count), off(count);
            for (std::size_t j = 0; j < count; ++j) {
                double magnitude = 0;
                for (index_t d = 0; d < size; ++d) {
                    s[j] += static_cast<double>(query(h)[static_cast<std::size_t>(d)]) * ks.value(row(j), d) * scale();
                    magnitude += std::fabs(ks.value(row(j), d));
                }
                // The scale of the query is a float.
                off[j] = q_scale / 2 * scale() * magnitude + std::exp2(-15.5) + 0x1p-23 * std::fabs(s[j]);
            }
            const double top = *std::max_element(s.begin(), s.end()), most = *std::max_element(off.begin(), off.end());
            double sum = 0, largest = 0; // T in units of 2^30
            for (std::size_t j = 0; j < count; ++j) {
                sum += std::exp(s[j] - top);
                largest = std::max(largest, std::exp(s[j] - top) * vs.scale(row(j)));
            }
            // Probabilities are off by this share of themselves: the exponents and E of one and of all others, and what
            // each E lacks of 1 in 2^30.
            const double e_share = std::exp2(-14.38);
            const double share =
                std::exp(2 * most) * (1 + e_share) / (1 - e_share) / (1 - static_cast<double>(keys) * 0x1p-30) - 1;
            for (index_t d = 0; d < size; ++d) {
                double real = 0, allowed = 0x1p-149;
                for (std::size_t j = 0; j < count; ++j) {
                    const double x = vs.value(row(j), d), p = std::exp(s[j] - top) / sum;
                    real += p * x;
                    allowed += p * std::fabs(x) * share +
                               (std::fabs(static_cast<double>(vs.code(row(j), d))) * largest / 65535 / 2 +
                                0x1p-30 * std::fabs(x)) /
                                   sum * (1 + share);
                }
                const auto got = static_cast<double>(y[static_cast<std::size_t>(h * size + d)]);
                worst = std::max(worst, std::fabs(got - real) - allowed - 0x1p-24 * std::fabs(got));
            }
        }
        return worst;
    }
};

} // namespace

TEST_CASE("attention over a cache is its definition on every instruction set, and near that in double") {
    std::mt19937 g(11);
    for (int trial = 0; trial < 24; ++trial) {
        const auto kv_heads = static_cast<index_t>(1 + g() % 4), queries = static_cast<index_t>(1 + g() % 9),
                   size = static_cast<index_t>(1 + g() % 70), keys = static_cast<index_t>(1 + g() % 150);
        problem p(g, kv_heads, queries, size, keys, trial % 3 == 0 ? 3.0f : 1.0f);
        if (trial % 4 == 0) p.spec.scale = 0.3f;
        INFO(kv_heads << " heads for " << queries << " queries each, of " << size << ", " << keys << " tokens");
        const floats want = p.by_definition();
        CHECK(p.beyond_bound(want) <= 0.0);
        for (isa i : available_isas()) {
            const kv_cache c = p.filled(context(i));
            for (index_t threads : {1, 2, 7}) {
                const thread_team team{threads};
                INFO(to_string(i) << ", threads " << threads);
                CHECK(attend(c, p.q, context(i, team)) == want);
            }
        }
    }
}

TEST_CASE("attention over many tokens: no probability is too small to count") {
    std::mt19937 g(12);
    problem p(g, 1, 2, 32, 4000, 1.0f);
    p.k.assign(p.k.size(), 0.0f); // each has a probability of less than 1 / 4000, far below a step of 1 / 256
    p.k[0] = 1.0f;
    p.v.assign(p.v.size(), 0.5f);
    p.spec.scale = 5.0f;
    p.q.assign(p.q.size(), 1.0f); // the first token has e^5: 3.6 percent
    const floats y = attend(p.filled(), p.q);
    CHECK(y == p.by_definition());
    CHECK(p.beyond_bound(y) <= 0.0);
    // All V are 127 and all scales equal: T / 65535 / 2 * sum of |V| / sum of E is this share of 0.5.
    const double share = 1 / 65535.0 / 2 * 4000 / (1 + 3999 * std::exp(-5.0));
    CHECK(share < 1.1e-3);
    for (float v : y) CHECK(std::fabs(static_cast<double>(v) - 0.5) <= 0.5 * (share + 1e-9));
}

TEST_CASE("the sums of attention over a cache fit int32 for the longest heads and the most tokens") {
    kv_cache_spec s{1, 1, 512, 3, 1e-3f};
    const floats k(512, 1.0f), minus(512, -1.0f);
    kv_cache c(s);
    c.append({k.data(), 1, 512}, {k.data(), 1, 512});
    c.append({minus.data(), 1, 512}, {minus.data(), 1, 512});
    s = {1, 1, 2, 65536};
    kv_cache many(s);
    const floats v(2 * 65536, -3.0f), zero(v.size());
    many.append({zero.data(), 65536, 2}, {v.data(), 65536, 2});
    for (isa i : available_isas()) {
        INFO(to_string(i));
        // S = +-32767 * 127 * 512, scores +-0.512: (e^0.512 - e^-0.512) / (e^0.512 + e^-0.512)
        for (float y : attend(c, k, context(i))) CHECK(y == Approx(std::tanh(0.512)).epsilon(2e-4));
        for (float y : attend(c, minus, context(i))) CHECK(y == Approx(-std::tanh(0.512)).epsilon(2e-4));
        CHECK(attend(many, {1, 2}, context(i)) == floats{-3, -3}); // every W is 65535
    }
}

TEST_CASE("attention over a cache by hand") {
    kv_cache c({2, 1, 2, 4});
    CHECK(c.size() == 0);
    CHECK(attend(c, {1, 2, 3, 4}) == floats{0, 0, 0, 0});
    // One token: its value, whatever the query.
    const floats k0{0.5f, -1.0f}, v0{127.0f, -3.0f};
    c.append({k0.data(), 1, 2}, {v0.data(), 1, 2});
    CHECK(c.size() == 1);
    CHECK(c.bytes() == 16);
    CHECK(attend(c, {1, 2, -3, 4}) == floats{127.0f, -3.0f, 127.0f, -3.0f});
    // A second one with another scale; the query 0 weighs them alike, a large one takes the nearer.
    const floats k1{-0.5f, 1.0f}, v1{-1.0f, 1.0f};
    c.append({k1.data(), 1, 2}, {v1.data(), 1, 2});
    const floats y = attend(c, {0, 0, -1000, 1000});
    CHECK(y[0] == Approx(63.0f).epsilon(1e-4));
    CHECK(y[1] == Approx(-1.0f).epsilon(1e-3));
    CHECK(y[2] == Approx(-1.0f).epsilon(1e-4));
    CHECK(y[3] == Approx(1.0f).epsilon(1e-4));
    c.truncate(1);
    CHECK(attend(c, {0, 0, -1000, 1000}) == floats{127.0f, -3.0f, 127.0f, -3.0f});
    c.truncate(0);
    CHECK(attend(c, {1, 1, 1, 1}) == floats{0, 0, 0, 0});
}

TEST_CASE("a cache filled at once, one by one, again after truncate, and with other strides is the same") {
    std::mt19937 g(13);
    const problem p(g, 2, 3, 24, 40, 1.0f);
    const index_t width = 48;
    const floats want = attend(p.filled(), p.q);
    kv_cache c(p.spec);
    for (int round = 0; round < 2; ++round) {
        for (index_t j = c.size(); j < p.keys; ++j)
            c.append({p.k.data() + j * width, 1, width}, {p.v.data() + j * width, 1, width});
        CHECK(attend(c, p.q) == want);
        c.truncate(17);
    }
    floats both;
    for (index_t j = 0; j < p.keys; ++j) {
        both.insert(both.end(), p.k.begin() + j * width, p.k.begin() + (j + 1) * width);
        both.insert(both.end(), p.v.begin() + j * width, p.v.begin() + (j + 1) * width);
    }
    kv_cache strided(p.spec);
    strided.append({both.data(), p.keys, width, 2 * width}, {both.data() + width, p.keys, width, 2 * width});
    CHECK(attend(strided, p.q) == want);
    floats in_place = p.q;
    std::vector<std::byte> memory(static_cast<std::size_t>(strided.workspace_size()));
    strided.attend(in_place, in_place, context(memory));
    CHECK(in_place == want);
    // What is behind the last token does not count, whatever stood there; a copy is a cache of its own.
    problem q = p;
    for (index_t keys = 39; keys >= 0; --keys) {
        q.keys = keys;
        q.k.resize(static_cast<std::size_t>(keys * width));
        q.v.resize(q.k.size());
        kv_cache copy = strided;
        copy.truncate(keys);
        for (isa i : available_isas()) CHECK(attend(copy, p.q, context(i)) == q.by_definition());
    }
    CHECK(attend(strided, p.q) == want);
}

TEST_CASE("a cache takes numbers that are not finite, and very large and small ones") {
    const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
    kv_cache c({1, 1, 2, 3});
    const floats k{nan, 1, inf, 2, 3e38f, -3e38f}, v{4, nan, -inf, 4, 1e-40f, 0};
    c.append({k.data(), 3, 2}, {v.data(), 3, 2});
    for (const floats& q : {floats{nan, 0}, floats{inf, -1}, floats{3e38f, -3e38f}, floats{0, 0}, floats{1e-40f, nan}})
        for (float y : attend(c, q)) {
            CHECK(std::isfinite(y));
            CHECK(std::fabs(y) <= 4.001f);
        }
    // Scores too far apart for t: the token with the lower one counts nothing, however large its values are.
    kv_cache apart({1, 1, 2, 2});
    const floats keys{1e20f, 0, -1e20f, 0}, values{127, 127, 1e14f, -1e14f};
    apart.append({keys.data(), 2, 2}, {values.data(), 2, 2});
    CHECK(attend(apart, {1e20f, 0}) == floats{127, 127});
    // Values at the end of the floats: the rounding of weights must not lead beyond it.
    const float end = std::numeric_limits<float>::max();
    kv_cache most({1, 1, 2, 40, 1.0f});
    for (int j = 0; j < 40; ++j) {
        const floats key{static_cast<float>(j) * 0.1f, 0}, value{end, -end};
        most.append({key.data(), 1, 2}, {value.data(), 1, 2});
        const floats y = attend(most, {1, 0});
        CHECK(y[0] >= 0.99f * end);
        CHECK(std::isfinite(y[0]));
        CHECK(y[1] == -y[0]);
    }
}

TEST_CASE("a cache refuses what does not fit") {
    const auto refused = [](kv_cache_spec s, const char* text) { CHECK_THROWS_WITH(kv_cache(s), contains_text(text)); };
    refused({0, 1, 8, 4}, "0 heads of queries on 1");
    refused({4, 0, 8, 4}, "4 heads of queries on 0");
    refused({4, 3, 8, 4}, "4 heads of queries on 3");
    refused({4, 2, 0, 4}, "head_size is 0");
    refused({4, 2, 513, 4}, "head_size is 513");
    refused({65537, 1, 8, 4}, "65537 heads of queries on 1");
    refused({std::numeric_limits<index_t>::max(), 1, 8, 4}, "heads of queries on 1");
    refused({-4, -2, 8, 4}, "-4 heads of queries on -2");
    refused({4, 2, 8, -1}, "capacity is -1");
    refused({4, 2, 8, 65537}, "capacity is 65537");
    refused({4, 2, 8, 4, -1.0f}, "scale");
    refused({4, 2, 8, 4, std::numeric_limits<float>::quiet_NaN()}, "scale");

    kv_cache c({4, 2, 8, 3});
    const floats k(64), v(64), q(32);
    floats y(32);
    std::vector<std::byte> memory(static_cast<std::size_t>(c.workspace_size()));
    const context ctx(memory);
    c.append({k.data(), 2, 16}, {v.data(), 2, 16});
    CHECK_THROWS_WITH(c.append({k.data(), 1, 15}, {v.data(), 1, 16}), contains_text("columns of k"));
    CHECK_THROWS_WITH(c.append({k.data(), 1, 16}, {v.data(), 1, 17}), contains_text("columns of v"));
    CHECK_THROWS_WITH(c.append({k.data(), 1, 16}, {v.data(), 2, 16}), contains_text("rows of v"));
    CHECK_THROWS_WITH(c.append({k.data(), 2, 16}, {v.data(), 2, 16}), contains_text("2 tokens and 2 more"));
    CHECK_THROWS_WITH(c.append({nullptr, 1, 16}, {v.data(), 1, 16}), contains_text("k is null"));
    CHECK_THROWS_WITH(c.append({k.data(), 1, 16}, {nullptr, 1, 16}), contains_text("v is null"));
    CHECK_THROWS_WITH(c.append({k.data(), 2, 16, 15}, {v.data(), 2, 16}), contains_text("stride 15"));
    CHECK(c.size() == 2);
    CHECK_NOTHROW(c.append({k.data(), 0, 16}, {v.data(), 0, 16}));
    CHECK(c.size() == 2);
    CHECK_THROWS_WITH(c.truncate(3), contains_text("3 of 2"));
    CHECK_THROWS_WITH(c.truncate(-1), contains_text("-1 of 2"));
    CHECK_THROWS_WITH(c.attend(std::span(q).first(31), y, ctx), contains_text("size of q"));
    CHECK_THROWS_WITH(c.attend(q, std::span(y).first(31), ctx), contains_text("size of y"));
    CHECK_THROWS_WITH(c.attend(q, y, context(std::span(memory).first(memory.size() - 64))),
                      contains_text("kv_cache.workspace_size"));
    kv_cache none({4, 2, 8, 0});
    CHECK(attend(none, q) == floats(32));
    CHECK_THROWS_WITH(none.append({k.data(), 1, 16}, {v.data(), 1, 16}), contains_text("the capacity is 0"));
    const kv_cache taken = std::move(c);
    CHECK_NOTHROW(taken.attend(q, y, ctx));
    CHECK_THROWS_WITH(c.attend(q, y, ctx), contains_text("moved from")); // NOLINT(bugprone-use-after-move)
    CHECK_THROWS_WITH(c.append({k.data(), 1, 16}, {v.data(), 1, 16}), contains_text("moved from"));
}
