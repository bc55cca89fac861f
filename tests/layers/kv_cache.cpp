// SPDX-License-Identifier: Apache-2.0
//
// A cache of keys and values in 8 bits: attention over it against attention in double on the stored codes with the
// error that the header states, the same results on every instruction set and for any number of threads, by hand,
// refusals.
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

/// The values that the cache stores instead of x, heads of size each.
floats stored(const floats& x, index_t size) {
    const index_t rows = static_cast<index_t>(x.size()) / size;
    std::vector<std::int8_t> codes(x.size());
    std::vector<quant_params> params(static_cast<std::size_t>(rows));
    quantize_rows_dynamic<symmetric<8>>({x.data(), rows, size}, {codes.data(), rows, size}, params);
    floats y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i)
        y[i] = static_cast<float>(codes[i]) * params[i / static_cast<std::size_t>(size)].scale;
    return y;
}

struct problem {
    kv_cache_spec spec;
    index_t keys = 0;
    floats q, k, v;

    problem(std::mt19937& g, index_t kv_heads, index_t queries, index_t size, index_t keys_, float spread)
        : keys(keys_) {
        spec.heads = kv_heads * queries;
        spec.kv_heads = kv_heads;
        spec.head_size = size;
        spec.capacity = keys + static_cast<index_t>(g() % 3);
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
    /// The largest error against double beyond what the header allows; at most 0 if that holds.
    [[nodiscard]] double beyond_bound(const floats& y) const {
        const index_t size = spec.head_size, width = spec.kv_heads * size, group = spec.heads / spec.kv_heads;
        const floats ks = stored(k, size), vs = stored(v, size);
        const double scale = static_cast<double>(static_cast<float>(1.0 / std::sqrt(static_cast<double>(size))));
        double worst = -1e9;
        const auto count = static_cast<std::size_t>(keys);
        for (index_t h = 0; h < spec.heads; ++h) {
            const float* qh = q.data() + h * size;
            const index_t at = h / group * size;
            double q_scale = 0;
            for (index_t d = 0; d < size; ++d)
                q_scale = std::max(q_scale, std::fabs(static_cast<double>(qh[d])) / 32639.0);
            std::vector<double> s(count), off(count), e(count), v_scale(count);
            for (index_t j = 0; j < keys; ++j) {
                const auto i = static_cast<std::size_t>(j);
                double magnitude = 0;
                for (index_t d = 0; d < size; ++d) {
                    const auto kd = static_cast<double>(ks[static_cast<std::size_t>(j * width + at + d)]);
                    s[i] += static_cast<double>(qh[d]) * kd * scale;
                    magnitude += std::fabs(kd);
                    v_scale[i] =
                        std::max(v_scale[i],
                                 std::fabs(static_cast<double>(v[static_cast<std::size_t>(j * width + at + d)])) / 127);
                }
                off[i] = q_scale / 2 * scale * magnitude + 0x1p-16 + 1e-6 * std::fabs(s[i]);
            }
            const double top = *std::max_element(s.begin(), s.end()), most = *std::max_element(off.begin(), off.end());
            double sum = 0, largest = 0;
            for (std::size_t i = 0; i < count; ++i) {
                e[i] = std::exp(s[i] - top);
                sum += e[i];
                largest = std::max(largest, e[i] * v_scale[i]);
            }
            // Probabilities are off by these shares of themselves: exponents of one and of all others, E of both.
            const double share = std::exp(2 * most) * (1 + 2 * 0x1p-14) - 1 + 1e-6;
            for (index_t d = 0; d < size; ++d) {
                double real = 0, allowed = 1e-7;
                for (std::size_t i = 0; i < count; ++i) {
                    const auto x =
                        static_cast<double>(vs[i * static_cast<std::size_t>(width) + static_cast<std::size_t>(at + d)]);
                    real += e[i] / sum * x;
                    allowed +=
                        e[i] / sum * std::fabs(x) * share +
                        (std::fabs(x) / v_scale[i] * largest / 32639 / 2 + 0x1p-30 * std::fabs(x)) / sum * (1 + share);
                }
                const auto got = static_cast<double>(y[static_cast<std::size_t>(h * size + d)]);
                worst = std::max(worst, std::fabs(got - real) - allowed * (1 + 1e-6));
            }
        }
        return worst;
    }
};

} // namespace

TEST_CASE("attention over a cache is that in double on its codes, the same on every instruction set") {
    std::mt19937 g(11);
    for (int trial = 0; trial < 24; ++trial) {
        const auto kv_heads = static_cast<index_t>(1 + g() % 4), queries = static_cast<index_t>(1 + g() % 9),
                   size = static_cast<index_t>(1 + g() % 70), keys = static_cast<index_t>(1 + g() % 150);
        const problem p(g, kv_heads, queries, size, keys, trial % 3 == 0 ? 3.0f : 1.0f);
        INFO(kv_heads << " heads for " << queries << " queries each, of " << size << ", " << keys << " tokens");
        const floats want = attend(p.filled(context(isa::scalar)), p.q, context(isa::scalar));
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
    p.k.assign(p.k.size(), 0.0f); // each has a probability of 1 / 4000, far below a step of 1 / 256
    p.k[0] = 1.0f;
    p.v.assign(p.v.size(), 0.5f);
    p.spec.scale = 5.0f;
    p.q.assign(p.q.size(), 1.0f); // the first token has e^5: 3.6 percent
    const floats y = attend(p.filled(), p.q);
    for (float v : y) CHECK(v == Approx(0.5f).epsilon(2e-3)); // half a step of 220
}

TEST_CASE("attention over a cache by hand") {
    kv_cache c({2, 1, 2, 4});
    CHECK(c.size() == 0);
    CHECK(attend(c, {1, 2, 3, 4}) == floats{0, 0, 0, 0});
    // One token: its value, whatever the query.
    const floats k0{0.5f, -1.0f}, v0{127.0f, -3.0f};
    c.append({k0.data(), 1, 2}, {v0.data(), 1, 2});
    CHECK(c.size() == 1);
    CHECK(c.bytes() == 12);
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
}

TEST_CASE("a cache refuses what does not fit") {
    const auto refused = [](kv_cache_spec s, const char* text) { CHECK_THROWS_WITH(kv_cache(s), contains_text(text)); };
    refused({0, 1, 8, 4}, "0 heads of queries on 1");
    refused({4, 0, 8, 4}, "4 heads of queries on 0");
    refused({4, 3, 8, 4}, "4 heads of queries on 3");
    refused({4, 2, 0, 4}, "head_size is 0");
    refused({4, 2, 513, 4}, "head_size is 513");
    refused({4, 2, 8, -1}, "capacity");
    refused({4, 2, 8, 33026}, "33025");
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
    CHECK(c.size() == 2);
    CHECK_THROWS_WITH(c.truncate(3), contains_text("3 of 2"));
    CHECK_THROWS_WITH(c.truncate(-1), contains_text("-1 of 2"));
    CHECK_THROWS_WITH(c.attend(std::span(q).first(31), y, ctx), contains_text("size of q"));
    CHECK_THROWS_WITH(c.attend(q, std::span(y).first(31), ctx), contains_text("size of y"));
    CHECK_THROWS_WITH(c.attend(q, y, context(std::span(memory).first(memory.size() - 64))),
                      contains_text("kv_cache.workspace_size"));
    const kv_cache taken = std::move(c);
    CHECK_NOTHROW(taken.attend(q, y, ctx));
    CHECK_THROWS_WITH(c.attend(q, y, ctx), contains_text("moved from")); // NOLINT(bugprone-use-after-move)
    CHECK_THROWS_WITH(c.append({k.data(), 1, 16}, {v.data(), 1, 16}), contains_text("moved from"));
}
