// SPDX-License-Identifier: Apache-2.0
//
// Attention in integers: against the composition of the reference operations on every instruction set, against
// attention in double with the error that the header states, causal, refusals.
#include "../catch.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <notch/layers/attention.hpp>
#include <notch/ref/gemm.hpp>

#include "../kernels/team.hpp"

using namespace notch;

namespace {

struct problem {
    attention_spec spec;
    index_t queries = 0, ld = 0;
    std::vector<std::int8_t> q, k, v;

    problem(std::mt19937& g, index_t heads, index_t size, index_t queries_, index_t keys, bool causal) {
        const auto zero = [&] { return static_cast<std::int32_t>(g() % 41) - 20; };
        spec.heads = heads;
        spec.head_size = size;
        spec.keys = keys;
        spec.q = {0.02f, zero()};
        spec.k = {0.03f, zero()};
        spec.v = {0.015f, zero()};
        spec.y = {0.012f, 120};
        spec.causal = causal;
        queries = queries_;
        ld = heads * size + static_cast<index_t>(g() % 3);
        const auto fill = [&](std::vector<std::int8_t>& to, index_t rows) {
            to.resize(static_cast<std::size_t>(rows * ld));
            for (auto& c : to) c = static_cast<std::int8_t>(g());
        };
        fill(q, queries);
        fill(k, keys);
        fill(v, keys);
    }
    [[nodiscard]] index_t width() const { return spec.heads * spec.head_size; }
    [[nodiscard]] matrix_view<const std::int8_t> view(const std::vector<std::int8_t>& x, index_t rows) const {
        return {x.data(), rows, width(), ld};
    }
    [[nodiscard]] std::vector<std::uint8_t> run(const context& base) const {
        const attention a(spec);
        std::vector<std::byte> memory(static_cast<std::size_t>(a.workspace_size(queries, base)));
        std::vector<std::uint8_t> y(static_cast<std::size_t>(queries * ld), 7);
        a.run(view(q, queries), view(k, spec.keys), view(v, spec.keys), {y.data(), queries, width(), ld},
              context(base.target, base.executor, memory));
        return y;
    }
    /// From the reference operations.
    [[nodiscard]] std::vector<std::uint8_t> reference() const {
        const index_t keys = spec.keys, size = spec.head_size;
        std::vector<std::uint8_t> y(static_cast<std::size_t>(queries * ld), 7),
            p(static_cast<std::size_t>(queries * keys));
        std::vector<std::int32_t> s(p.size());
        const auto softmax =
            make_softmax_s32(static_cast<float>(static_cast<double>(spec.q.scale) * static_cast<double>(spec.k.scale)),
                             static_cast<float>(1.0 / std::sqrt(static_cast<double>(size))));
        const auto m =
            static_cast<float>(static_cast<double>(spec.v.scale) / 256.0 / static_cast<double>(spec.y.scale));
        for (index_t h = 0; h < spec.heads; ++h) {
            for (index_t i = 0; i < queries; ++i)
                for (index_t j = 0; j < keys; ++j) {
                    std::int32_t& sum = s[static_cast<std::size_t>(i * keys + j)];
                    sum = 0;
                    for (index_t d = h * size; d < (h + 1) * size; ++d)
                        sum += (view(q, queries)(i, d) - spec.q.zero_point) * (view(k, keys)(j, d) - spec.k.zero_point);
                    if (spec.causal && j > i + keys - queries) sum = std::numeric_limits<std::int32_t>::min();
                }
            ref::softmax(matrix_view<const std::int32_t>(s.data(), queries, keys), softmax,
                         matrix_view<std::uint8_t>(p.data(), queries, keys));
            for (index_t i = 0; i < queries; ++i)
                for (index_t d = h * size; d < (h + 1) * size; ++d) {
                    std::int32_t sum = 0;
                    for (index_t j = 0; j < keys; ++j)
                        sum += p[static_cast<std::size_t>(i * keys + j)] * (view(v, keys)(j, d) - spec.v.zero_point);
                    y[static_cast<std::size_t>(i * ld + d)] =
                        static_cast<std::uint8_t>(requantize_float(sum, m, spec.y.zero_point, {0, 255}));
                }
        }
        return y;
    }
    /// The largest |code - real code| - bound against attention in double; below 0 if the header's bound holds.
    [[nodiscard]] double beyond_bound(const std::vector<std::uint8_t>& y) const {
        const index_t keys = spec.keys, size = spec.head_size;
        const double scale = static_cast<double>(static_cast<float>(1.0 / std::sqrt(static_cast<double>(size)))),
                     step = static_cast<double>(spec.q.scale) * static_cast<double>(spec.k.scale) * scale,
                     vs = static_cast<double>(spec.v.scale), ys = static_cast<double>(spec.y.scale);
        double worst = -1e9;
        std::vector<double> p(static_cast<std::size_t>(keys));
        for (index_t h = 0; h < spec.heads; ++h)
            for (index_t i = 0; i < queries; ++i) {
                const index_t seen = spec.causal ? i + keys - queries + 1 : keys;
                double top = -1e30, sum = 0;
                for (index_t j = 0; j < seen; ++j) {
                    double& s = p[static_cast<std::size_t>(j)];
                    s = 0;
                    for (index_t d = h * size; d < (h + 1) * size; ++d)
                        s += (view(q, queries)(i, d) - spec.q.zero_point) * (view(k, keys)(j, d) - spec.k.zero_point);
                    top = std::max(top, s);
                }
                for (index_t j = 0; j < seen; ++j) {
                    double& s = p[static_cast<std::size_t>(j)];
                    s = std::exp((s - top) * step);
                    sum += s;
                }
                for (index_t d = h * size; d < (h + 1) * size; ++d) {
                    double real = 0, bound = 0;
                    for (index_t j = 0; j < seen; ++j) {
                        const double pj = p[static_cast<std::size_t>(j)] / sum,
                                     vj = vs * (view(v, keys)(j, d) - spec.v.zero_point);
                        real += pj * vj;
                        bound += (pj > 255.0 / 256.0 ? 1.0 : 0.508 + static_cast<double>(keys) * 0x1p-22) / 256.0 *
                                 std::fabs(vj);
                    }
                    const double code = std::clamp(real / ys + spec.y.zero_point, 0.0, 255.0);
                    worst =
                        std::max(worst, std::fabs(code - y[static_cast<std::size_t>(i * ld + d)]) - 0.502 - bound / ys);
                }
            }
        return worst;
    }
};

} // namespace

TEST_CASE("attention is the composition of the reference operations, on every instruction set") {
    std::mt19937 g(7);
    for (int trial = 0; trial < 40; ++trial) {
        const auto heads = static_cast<index_t>(1 + g() % 5), size = static_cast<index_t>(1 + g() % 40),
                   keys = static_cast<index_t>(1 + g() % 50);
        const bool causal = trial % 3 == 0;
        const index_t queries =
            causal ? static_cast<index_t>(1 + g() % static_cast<unsigned>(keys)) : static_cast<index_t>(g() % 30);
        const problem p(g, heads, size, queries, keys, causal);
        const auto want = p.reference();
        INFO(heads << " heads of " << size << ", " << queries << " queries, " << keys << " keys"
                   << (causal ? ", causal" : ""));
        CHECK(p.beyond_bound(want) <= 0.0);
        for (isa i : available_isas())
            for (index_t threads : {1, 2, 7}) {
                const thread_team team{threads};
                INFO(to_string(i) << ", threads " << threads);
                CHECK(p.run(context(i, team)) == want);
            }
    }
}

TEST_CASE("attention by hand: equal scores give the mean of the values, causal that of those so far") {
    attention_spec s;
    s.heads = 2;
    s.head_size = 1;
    s.keys = 4;
    s.q = s.k = s.v = {1.0f, 0};
    s.y = {1.0f, 100};
    const std::vector<std::int8_t> zero(8), v{4, 40, 8, 80, 12, -40, 16, -80};
    const matrix_view<const std::int8_t> z(zero.data(), 4, 2), values(v.data(), 4, 2);
    std::vector<std::uint8_t> y(8);
    for (bool causal : {false, true}) {
        s.causal = causal;
        const attention a(s);
        std::vector<std::byte> memory(static_cast<std::size_t>(a.workspace_size(4)));
        a.run(z, z, values, {y.data(), 4, 2}, context(memory));
        if (!causal) CHECK(y == std::vector<std::uint8_t>{110, 100, 110, 100, 110, 100, 110, 100});
        // 4; (4 + 8) / 2; three probabilities of 85 / 256: 255 / 256 * 8 = 7.97; 10. 40 alone has 255 / 256.
        if (causal) CHECK(y == std::vector<std::uint8_t>{104, 140, 106, 160, 108, 127, 110, 100});
    }
    s.keys = 0;
    const attention none(s);
    std::vector<std::byte> memory(static_cast<std::size_t>(none.workspace_size(0)));
    CHECK_NOTHROW(
        none.run({zero.data(), 0, 2}, {zero.data(), 0, 2}, {zero.data(), 0, 2}, {y.data(), 0, 2}, context(memory)));
}

TEST_CASE("attention refuses what does not fit") {
    std::mt19937 g(8);
    problem p(g, 3, 16, 5, 9, false);
    const attention a(p.spec);
    std::vector<std::byte> memory(static_cast<std::size_t>(a.workspace_size(5)));
    std::vector<std::uint8_t> y(static_cast<std::size_t>(5 * p.ld));
    const auto q = p.view(p.q, 5), k = p.view(p.k, 9), v = p.view(p.v, 9);
    const matrix_view<std::uint8_t> out(y.data(), 5, p.width(), p.ld);
    const context ctx(memory);
    a.run(q, k, v, out, ctx);

    CHECK_THROWS_WITH(a.run(q, q, v, out, ctx), contains_text("rows of k"));
    CHECK_THROWS_WITH(a.run(q, k, q, out, ctx), contains_text("rows of v"));
    CHECK_THROWS_WITH(a.run({p.q.data(), 5, p.width() - 1, p.ld}, k, v, out, ctx), contains_text("columns of q"));
    CHECK_THROWS_WITH(a.run(q, k, v, {y.data(), 4, p.width(), p.ld}, ctx), contains_text("rows of y"));
    CHECK_THROWS_WITH(a.run(q, k, v, out, context(std::span(memory).first(memory.size() - 64))),
                      contains_text("attention.workspace_size"));
    CHECK_THROWS_WITH(a.workspace_size(-1), contains_text("queries"));
    const auto refused = [&](auto change, const char* text) {
        attention_spec s = p.spec;
        change(s);
        CHECK_THROWS_WITH(attention(s), contains_text(text));
    };
    refused([](attention_spec& s) { s.heads = 0; }, "0 heads");
    refused([](attention_spec& s) { s.head_size = -1; }, "heads of -1");
    refused([](attention_spec& s) { s.keys = -1; }, "n is -1");
    refused([](attention_spec& s) { s.keys = 33026; }, "33025");
    refused([](attention_spec& s) { s.q.scale = 0; }, "q.scale");
    refused([](attention_spec& s) { s.k.zero_point = 128; }, "k.zero_point");
    refused([](attention_spec& s) { s.v.scale = NAN; }, "v.scale");
    refused([](attention_spec& s) { s.y.zero_point = -1; }, "y.zero_point");
    refused([](attention_spec& s) { s.scale = -1; }, "scale");
    p.spec.causal = true;
    p.spec.keys = 4;
    const attention causal(p.spec);
    CHECK_THROWS_WITH(causal.run(q, p.view(p.k, 4), p.view(p.v, 4), out, ctx), contains_text("5 queries for 4 keys"));
}
