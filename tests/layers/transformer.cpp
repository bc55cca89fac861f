// SPDX-License-Identifier: Apache-2.0
//
// The layers of transformers for training: gradients, the codes of their frozen twins, masks, refusals.
#include "../catch.hpp"

#include <cmath>
#include <random>
#include <vector>

#include <notch/layers/attention_layer.hpp>
#include <notch/layers/layer_norm.hpp>
#include <notch/layers/lookup.hpp>
#include <notch/ref/norm.hpp>

using namespace notch;
using u8 = std::uint8_t;

namespace {

activation random_values(std::mt19937& g, index_t n, index_t h, index_t w, index_t c, float most = 1.0f) {
    activation x;
    x.reshape(n, h, w, c);
    x.values = buffer<float>(x.size());
    for (float& v : x.values) v = most * (static_cast<float>(g() % 2001) / 1000.0f - 1.0f);
    return x;
}
std::vector<float> random_vector(std::mt19937& g, index_t n) {
    std::vector<float> v(static_cast<std::size_t>(n));
    for (float& e : v) e = static_cast<float>(g() % 2001) / 1000.0f - 1.0f;
    return v;
}
double dot(std::span<const float> a, std::span<const float> b) {
    double sum = 0;
    for (std::size_t i = 0; i < b.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    return sum;
}

/// gradient against central differences of loss() in every element of value.
template <class Loss>
void check_differences(const char* name, std::span<float> value, std::span<const float> gradient, const Loss& loss) {
    REQUIRE(value.size() == gradient.size());
    for (std::size_t i = 0; i < value.size(); ++i) {
        const float before = value[i], h = 1e-2f;
        value[i] = before + h;
        const double up = loss();
        value[i] = before - h;
        const double down = loss();
        value[i] = before;
        INFO(name << " " << i);
        CHECK(static_cast<double>(gradient[i]) == Approx((up - down) / 0.02).margin(1e-3).epsilon(2e-3));
    }
}
index_t different(std::span<const u8> a, std::span<const u8> b) {
    REQUIRE(a.size() == b.size());
    index_t n = 0;
    for (std::size_t i = 0; i < a.size(); ++i) n += a[i] != b[i];
    return n;
}
/// The largest distance between what the codes stand for and real values, in steps.
double distance(const activation& codes, const activation& real) {
    double worst = 0;
    for (index_t i = 0; i < codes.size(); ++i)
        worst =
            std::max(worst, std::fabs(static_cast<double>(codes.codes[i] - codes.params.zero_point) -
                                      static_cast<double>(real.values[i]) / static_cast<double>(codes.params.scale)));
    return worst;
}
/// The real values of the codes of x, as an activation.
activation dequantized(const activation& x) {
    activation y;
    y.reshape(x.n, x.h, x.w, x.c);
    buffer<float> scratch;
    const std::span<const float> v = real_values(x, scratch, {});
    y.values = buffer<float>(x.size());
    std::copy(v.begin(), v.end(), y.values.begin());
    return y;
}

constexpr quant_params q_params{0.02f, 120}, k_params{0.015f, 131}, v_params{0.01f, 127};

} // namespace

TEST_CASE("attention for training: the gradients are those of differences") {
    for (const bool causal : {false, true}) {
        INFO("causal " << causal);
        std::mt19937 g(1);
        attention_layer<> layer(2, causal);
        activation q = random_values(g, 2, 1, 3, 6), k = random_values(g, 2, 2, 2, 6), v = random_values(g, 2, 2, 2, 6),
                   y;
        const std::vector<float> weight = random_vector(g, q.size());
        const auto loss = [&] {
            layer.forward(q, k, v, y, phase::fp32, true, {});
            return dot(y.values, weight);
        };
        (void)loss();
        std::vector<float> dy = weight, dq(weight.size()), dk(static_cast<std::size_t>(k.size())), dv(dk.size());
        layer.backward(dy, dq, dk, dv, {});
        check_differences("q", q.values, dq, loss);
        check_differences("k", k.values, dk, loss);
        check_differences("v", v.values, dv, loss);
    }
}

TEST_CASE("attention for training by hand, with and without a mask") {
    // One head of one channel, two tokens: scores 0 and ln 3 for the first query, 0 and 0 for the second.
    activation q, k, v, y;
    for (activation* x : {&q, &k, &v}) {
        x->reshape(1, 1, 2, 1);
        x->values = buffer<float>(2);
    }
    q.values[0] = std::log(3.0f);
    k.values[1] = 1.0f;
    v.values[0] = 4.0f;
    v.values[1] = 8.0f;
    attention_layer<> layer(1), causal(1, true);
    layer.forward(q, k, v, y, phase::fp32, false, {});
    CHECK(static_cast<double>(y.values[0]) == Approx(0.25 * 4 + 0.75 * 8));
    CHECK(static_cast<double>(y.values[1]) == Approx(6));
    causal.forward(q, k, v, y, phase::fp32, false, {});
    CHECK(static_cast<double>(y.values[0]) == Approx(4));
    CHECK(static_cast<double>(y.values[1]) == Approx(6));
}

TEST_CASE("attention for training gives the codes of frozen attention on every instruction set") {
    for (const bool causal : {false, true}) {
        std::mt19937 g(2);
        attention_layer<> layer(3, causal);
        activation q = random_values(g, 3, 2, 4, 15, 2.0f), k = random_values(g, 3, 3, 5, 15, 2.0f),
                   v = random_values(g, 3, 3, 5, 15, 1.2f), real, y, trained;
        quantize_input(q, q_params);
        quantize_input(k, k_params);
        quantize_input(v, v_params);
        activation rq = dequantized(q), rk = dequantized(k), rv = dequantized(v);
        layer.forward(rq, rk, rv, real, phase::calibrate, false, {});
        layer.forward(q, k, v, y, phase::quantized, false, {});
        // 15 probabilities of at most 0.51 / 256, values of at most 1.3.
        CHECK(distance(y, real) < 0.51 + 15 * 0.51 / 256 * 1.3 / static_cast<double>(y.params.scale));
        const attention frozen = freeze(layer, q.params, k.params, v.params, 15, 15);
        for (isa i : available_isas()) {
            INFO(to_string(i) << " causal " << causal);
            std::vector<std::byte> memory(static_cast<std::size_t>(frozen.workspace_size(8)));
            std::vector<u8> out(static_cast<std::size_t>(y.size()));
            for (index_t n = 0; n < 3; ++n) {
                const auto rows = [&](const activation& x, index_t count) {
                    return matrix_view<const u8>(x.codes.data() + n * count * 15, count, 15);
                };
                frozen.run(rows(q, 8), rows(k, 15), rows(v, 15), {out.data() + n * 8 * 15, 8, 15},
                           context(i, {}, memory));
            }
            attention_layer<> again = layer;
            again.forward(q, k, v, trained, phase::quantized, true, context(i));
            CHECK(different(out, y.codes) == 0);
            CHECK(different(out, trained.codes) == 0);
        }
    }
}

TEST_CASE("attention on u8 codes is that on s8 codes, and shows its probabilities") {
    std::mt19937 g(3);
    attention_spec s;
    s.heads = 2;
    s.head_size = 8;
    s.keys = 7;
    s.q = q_params;
    s.k = k_params;
    s.v = v_params;
    s.y = {0.01f, 128};
    s.is_signed = false;
    const attention by_u8(s);
    for (quant_params* p : {&s.q, &s.k, &s.v}) p->zero_point -= 128;
    s.is_signed = true;
    const attention by_s8(s);
    std::vector<u8> x(3 * 7 * 16), y(7 * 16), z(7 * 16), p(2 * 7 * 7), other(p.size());
    std::vector<std::int8_t> shifted(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
        x[i] = static_cast<u8>(g());
        shifted[i] = static_cast<std::int8_t>(x[i] - 128);
    }
    std::vector<std::byte> memory(static_cast<std::size_t>(by_u8.workspace_size(7)));
    const auto part = [](const auto& all, index_t i) { return matrix_view(all.data() + i * 7 * 16, 7, 16); };
    using const_u8 = matrix_view<const u8>;
    using const_s8 = matrix_view<const std::int8_t>;
    for (isa i : available_isas()) {
        const context ctx(i, {}, memory);
        by_u8.run(const_u8(part(x, 0)), const_u8(part(x, 1)), const_u8(part(x, 2)), {y.data(), 7, 16}, ctx, p);
        by_s8.run(const_s8(part(shifted, 0)), const_s8(part(shifted, 1)), const_s8(part(shifted, 2)), {z.data(), 7, 16},
                  ctx, other);
        CHECK(y == z);
        CHECK(p == other);
        for (std::size_t row = 0; row < 14; ++row) {
            int sum = 0;
            for (std::size_t j = 0; j < 7; ++j) sum += p[row * 7 + j];
            CHECK(std::abs(sum - 256) <= 4); // 7 roundings, and 255 for 1
        }
    }
    const context ctx(memory);
    CHECK_THROWS_WITH(
        by_s8.run(const_u8(part(x, 0)), const_u8(part(x, 1)), const_u8(part(x, 2)), {y.data(), 7, 16}, ctx),
        contains_text("made for s8"));
    CHECK_THROWS_WITH(by_u8.run(const_u8(part(x, 0)), const_u8(part(x, 1)), const_u8(part(x, 2)), {y.data(), 7, 16},
                                ctx, std::span(p).first(97)),
                      contains_text("number of probabilities is 97"));
    s.is_signed = false; // zero points below 0
    CHECK_THROWS_WITH(attention(s), contains_text("zero_point"));
}

TEST_CASE("attention, quantized: the gradient is that of the codes and probabilities that forward used") {
    std::mt19937 g(4);
    attention_layer<> layer(1);
    layer.fixed_params = quant_params{0.02f, 128}; // nothing is clipped
    activation q = random_values(g, 1, 1, 4, 3, 2.0f), k = random_values(g, 1, 1, 4, 3, 2.0f),
               v = random_values(g, 1, 1, 4, 3), y;
    quantize_input(q, q_params);
    quantize_input(k, k_params);
    quantize_input(v, v_params);
    layer.forward(q, k, v, y, phase::quantized, true, {});
    CHECK(layer.output_observer.range().empty()); // fixed
    const std::vector<float> weight = random_vector(g, 12);
    std::vector<float> dy = weight, dq(12), dk(12), dv(12);
    layer.backward(dy, dq, dk, dv, {});
    const attention frozen = freeze(layer, q.params, k.params, v.params, 4, 3);
    std::vector<std::byte> memory(static_cast<std::size_t>(frozen.workspace_size(4)));
    std::vector<u8> p(16), out(12);
    const auto rows = [](const activation& x) { return matrix_view<const u8>(x.codes.data(), 4, 3); };
    frozen.run(rows(q), rows(k), rows(v), {out.data(), 4, 3}, context(memory), p);
    const activation rq = dequantized(q), rk = dequantized(k), rv = dequantized(v);
    std::vector<double> wq(12), wk(12), wv(12);
    const auto at = [](const activation& x, std::size_t i, std::size_t d) {
        return static_cast<double>(x.values[static_cast<index_t>(i * 3 + d)]);
    };
    for (std::size_t i = 0; i < 4; ++i) {
        double dp[4], mean = 0;
        for (std::size_t j = 0; j < 4; ++j) {
            const double pij = p[i * 4 + j] / 256.0;
            dp[j] = 0;
            for (std::size_t d = 0; d < 3; ++d) {
                dp[j] += static_cast<double>(weight[i * 3 + d]) * at(rv, j, d);
                wv[j * 3 + d] += pij * static_cast<double>(weight[i * 3 + d]);
            }
            mean += pij * dp[j];
        }
        for (std::size_t j = 0; j < 4; ++j) {
            const double ds = p[i * 4 + j] / 256.0 * (dp[j] - mean) / std::sqrt(3.0);
            for (std::size_t d = 0; d < 3; ++d) {
                wq[i * 3 + d] += ds * at(rk, j, d);
                wk[j * 3 + d] += ds * at(rq, i, d);
            }
        }
    }
    for (std::size_t i = 0; i < 12; ++i) {
        CHECK(static_cast<double>(dq[i]) == Approx(wq[i]).margin(1e-6));
        CHECK(static_cast<double>(dk[i]) == Approx(wk[i]).margin(1e-6));
        CHECK(static_cast<double>(dv[i]) == Approx(wv[i]).margin(1e-6));
    }
}

TEST_CASE("attention: clipped outputs pass no gradient on") {
    std::mt19937 g(5);
    attention_layer<> layer(1);
    layer.fixed_params = quant_params{0.0005f, 128}; // +-0.064
    activation q = random_values(g, 1, 1, 1, 4), v = random_values(g, 1, 1, 1, 4), y;
    quantize_input(q, q_params);
    quantize_input(v, v_params);
    layer.forward(q, q, v, y, phase::quantized, true, {});
    std::vector<float> dy(4, 1.0f), dq(4), dk(4), dv(4);
    layer.backward(dy, dq, dk, dv, {});
    index_t clipped = 0;
    for (index_t i = 0; i < 4; ++i) {
        const bool outside = y.codes[i] == 0 || y.codes[i] == 255;
        clipped += outside;
        CHECK(dv[static_cast<std::size_t>(i)] == (outside ? 0.0f : 255.0f / 256.0f));
    }
    CHECK(clipped > 1);
}

TEST_CASE("layer norm for training: the gradients are those of differences") {
    std::mt19937 g(6);
    layer_norm_layer<> layer(5, 1e-3f);
    for (float& v : layer.gamma) v = 0.5f + static_cast<float>(g() % 1000) / 1000.0f;
    for (float& v : layer.beta) v = static_cast<float>(g() % 1000) / 1000.0f - 0.5f;
    activation x = random_values(g, 2, 2, 2, 5, 2.0f), y;
    const std::vector<float> weight = random_vector(g, x.size());
    const auto loss = [&] {
        layer.forward(x, y, phase::fp32, true, {});
        return dot(y.values, weight);
    };
    (void)loss();
    std::vector<float> dy = weight, dx(weight.size());
    layer.backward(dy, dx);
    layer.parameters([&](const auto& p) {
        const std::vector<float> gradient(p.gradient.begin(), p.gradient.end());
        check_differences(p.name, p.value, gradient, loss);
    });
    check_differences("x", x.values, dx, loss);
    dy = weight; // adds to the gradients
    const float before = layer.beta_gradient[0];
    layer.backward(dy, {});
    CHECK(static_cast<double>(layer.beta_gradient[0]) == Approx(2.0 * static_cast<double>(before)));
}

TEST_CASE("layer norm for training gives the codes of the kernel on every instruction set") {
    std::mt19937 g(7);
    for (const index_t channels : {1, 3, 64, 200}) {
        layer_norm_layer<> layer(channels);
        for (float& v : layer.gamma) v = static_cast<float>(g() % 2000) / 1000.0f - 0.7f;
        for (float& v : layer.beta) v = static_cast<float>(g() % 1000) / 1000.0f - 0.5f;
        activation x = random_values(g, 2, 3, 1, channels, 2.0f), y, trained, real;
        quantize_input(x, {0.017f, 119});
        for (index_t c = 0; c < channels; ++c) x.codes[c] = 77; // no variance
        layer.forward(dequantized(x), real, phase::calibrate, false, {});
        layer.forward(x, y, phase::quantized, false, {});
        CHECK(distance(y, real) < 0.51);
        const auto constants = freeze(layer, x.params);
        std::vector<u8> want(static_cast<std::size_t>(x.size()));
        ref::norm<u8, u8>(matrix_view<const u8>(x.codes.data(), 6, channels), constants,
                          matrix_view<u8>(want.data(), 6, channels));
        CHECK(different(want, y.codes) == 0);
        layer.fixed_params = layer.output_params();
        for (isa i : available_isas()) {
            INFO(to_string(i) << " channels " << channels);
            std::vector<u8> out(want.size());
            norm(matrix_view<const u8>(x.codes.data(), 6, channels), constants,
                 matrix_view<u8>(out.data(), 6, channels), context(i));
            layer.forward(x, trained, phase::quantized, true, context(i));
            CHECK(out == want);
            CHECK(different(out, trained.codes) == 0);
        }
    }
}

TEST_CASE("layer norm, quantized: the gradient is that of the real values of the codes, and ends at clipped codes") {
    std::mt19937 g(8);
    layer_norm_layer<> layer(16), exact(16);
    activation x = random_values(g, 1, 1, 4, 16, 2.0f), y;
    quantize_input(x, {0.017f, 119});
    const activation real = dequantized(x);
    layer.fixed_params = quant_params{0.02f, 128}; // nothing is clipped
    layer.forward(x, y, phase::quantized, true, {});
    const std::vector<float> weight = random_vector(g, 64);
    std::vector<float> dy = weight, dx(64), want(64);
    layer.backward(dy, dx);
    activation z;
    exact.forward(real, z, phase::fp32, true, {});
    dy = weight;
    exact.backward(dy, want);
    CHECK(dx == want);
    layer.fixed_params = quant_params{0.004f, 128}; // +-0.5
    layer.forward(x, y, phase::quantized, true, {});
    dy.assign(64, 1.0f);
    layer.backward(dy, {});
    index_t clipped = 0;
    for (index_t i = 0; i < 64; ++i)
        if (std::fabs(z.values[i]) > 0.52f) {
            ++clipped;
            CHECK(dy[static_cast<std::size_t>(i)] == 0.0f);
        } else if (std::fabs(z.values[i]) < 0.5f) {
            CHECK(dy[static_cast<std::size_t>(i)] == 1.0f);
        }
    CHECK(clipped > 10);
}

namespace {
template <class Function> void check_lookup() {
    std::mt19937 g(9);
    lookup_layer<Function> layer;
    activation x = random_values(g, 2, 1, 3, 20, 4.0f), y, real, trained;
    const std::vector<float> weight = random_vector(g, x.size());
    const auto loss = [&] {
        layer.forward(x, y, phase::fp32, true, {});
        return dot(y.values, weight);
    };
    (void)loss();
    std::vector<float> dx(weight.size());
    layer.backward(weight, dx);
    check_differences("x", x.values, dx, loss);
    for (double v : {-30.0, -4.0, -0.3, 0.0, 0.7, 5.0, 30.0}) { // double and float are one function
        CHECK(Function::value(v) == Approx(static_cast<double>(Function::value(static_cast<float>(v)))).margin(1e-6));
        CHECK(Function::slope(v) == Approx(static_cast<double>(Function::slope(static_cast<float>(v)))).margin(1e-6));
    }
    quantize_input(x, {8.0f / 255.0f, 127});
    layer.forward(dequantized(x), real, phase::calibrate, false, {});
    layer.forward(x, y, phase::quantized, false, {});
    CHECK(distance(y, real) < 0.51);
    const auto table = freeze(layer, x.params);
    layer.fixed_params = layer.output_params();
    for (isa i : available_isas()) {
        INFO(to_string(i));
        std::vector<u8> out(static_cast<std::size_t>(x.size()));
        lookup(x.codes, table, out, context(i));
        layer.forward(x, trained, phase::quantized, true, context(i));
        CHECK(different(out, y.codes) == 0);
        CHECK(different(out, trained.codes) == 0);
    }
    // Quantized: the slopes at the codes; none where the output is clipped.
    layer.fixed_params = quant_params{0.01f, 0}; // 0 ... 2.55
    layer.forward(x, y, phase::quantized, true, {});
    std::vector<float> dq(weight.size());
    layer.backward(weight, dq);
    const activation values = dequantized(x);
    index_t clipped = 0;
    for (index_t i = 0; i < x.size(); ++i) {
        const double at = static_cast<double>(values.values[i]), out = Function::value(at);
        const bool outside = out < -0.005 || out > 2.555;
        clipped += outside;
        const auto k = static_cast<std::size_t>(i);
        CHECK(static_cast<double>(dq[k]) ==
              Approx(outside ? 0.0 : static_cast<double>(weight[k]) * Function::slope(at)).margin(1e-6));
    }
    CHECK(clipped > 20);
}
} // namespace

TEST_CASE("GELU and SiLU for training: gradients, codes of the table on every instruction set, masks") {
    check_lookup<gelu_function>();
    check_lookup<silu_function>();
}

TEST_CASE("the ranges of attention, layer norm and GELU follow training, unless they are fixed") {
    std::mt19937 g(10);
    activation x = random_values(g, 1, 1, 4, 4), y;
    attention_layer<> a(2);
    layer_norm_layer<> n(4);
    gelu_layer<> l;
    a.forward(x, x, x, y, phase::calibrate, false, {});
    n.forward(x, y, phase::calibrate, false, {});
    l.forward(x, y, phase::calibrate, false, {});
    quantize_input(x, {0.05f, 128}); // saturating nothing; other values than calibrated
    for (u8& c : x.codes) c = static_cast<u8>(g());
    for (const bool training : {false, true}) {
        const real_range ra = a.output_observer.range(), rn = n.output_observer.range(), rl = l.output_observer.range();
        const quant_params before = a.output_params();
        a.forward(x, x, x, y, phase::quantized, training, {});
        CHECK(y.params == before); // from the next forward on
        n.forward(x, y, phase::quantized, training, {});
        l.forward(x, y, phase::quantized, training, {});
        CHECK((a.output_observer.range() == ra) == !training);
        CHECK((n.output_observer.range() == rn) == !training);
        CHECK((l.output_observer.range() == rl) == !training);
    }
}

TEST_CASE("the layers of transformers refuse what does not fit") {
    std::mt19937 g(11);
    activation x = random_values(g, 2, 1, 3, 4), y, other = random_values(g, 2, 1, 3, 5),
               few = random_values(g, 1, 1, 3, 4), longer = random_values(g, 2, 1, 4, 4);
    std::vector<float> d(24), e(23);

    CHECK_THROWS_WITH(attention_layer<>(0), contains_text("0 heads"));
    attention_layer<> a(2), three(3), causal(2, true);
    CHECK_THROWS_WITH(a.output_params(), contains_text("never observed"));
    CHECK_THROWS_WITH(a.backward(d, d, d, d, {}), contains_text("needs a forward with training = true"));
    CHECK_THROWS_WITH(a.forward(x, x, x, y, phase::dynamic, true, {}), contains_text("no phase::dynamic"));
    CHECK_THROWS_WITH(a.forward(x, x, x, y, static_cast<phase>(9), true, {}), contains_text("the phase is 9"));
    CHECK_THROWS_WITH(a.forward(x, x, x, y, phase::quantized, true, {}), contains_text("codes where values"));
    CHECK_THROWS_WITH(a.forward(x, x, x, x, phase::fp32, true, {}), contains_text("must not be an input"));
    CHECK_THROWS_WITH(a.forward(x, other, x, y, phase::fp32, true, {}), contains_text("number of channels"));
    CHECK_THROWS_WITH(a.forward(x, few, few, y, phase::fp32, true, {}), contains_text("number of images"));
    CHECK_THROWS_WITH(a.forward(x, x, longer, y, phase::fp32, true, {}), contains_text("number of pixels of v is 4"));
    CHECK_THROWS_WITH(three.forward(x, x, x, y, phase::fp32, true, {}), contains_text("4 channels for 3 heads"));
    CHECK_THROWS_WITH(causal.forward(longer, x, x, y, phase::fp32, true, {}), contains_text("4 queries for 3 keys"));
    activation none;
    none.reshape(2, 1, 0, 4);
    CHECK_THROWS_WITH(a.forward(x, none, none, y, phase::fp32, true, {}), contains_text("no keys"));
    a.forward(x, x, x, y, phase::fp32, true, {});
    CHECK_THROWS_WITH(a.backward(e, d, d, d, {}), contains_text("the size of dy is 23"));
    CHECK_THROWS_WITH(a.backward(d, e, d, d, {}), contains_text("the size of dq is 23"));
    CHECK_THROWS_WITH(a.backward(d, d, e, d, {}), contains_text("the size of dk is 23"));
    CHECK_THROWS_WITH(a.backward(d, d, d, e, {}), contains_text("the size of dv is 23"));
    a.forward(x, x, x, y, phase::fp32, false, {});
    CHECK_THROWS_WITH(a.backward(d, d, d, d, {}), contains_text("needs a forward with training = true"));

    CHECK_THROWS_WITH(layer_norm_layer<>(0), contains_text("0 channels"));
    CHECK_THROWS_WITH(layer_norm_layer<>(4, 0.0f), contains_text("epsilon is 0"));
    CHECK_THROWS_WITH(layer_norm_layer<>(4, NAN), contains_text("epsilon is"));
    layer_norm_layer<> n(4), wide(5);
    CHECK_THROWS_WITH(n.copy_from(wide), contains_text("number of channels"));
    CHECK_THROWS_WITH(n.backward(d, d), contains_text("needs a forward with training = true"));
    CHECK_THROWS_WITH(n.forward(other, y, phase::fp32, true, {}), contains_text("number of channels of x is 5"));
    CHECK_THROWS_WITH(n.forward(x, y, phase::dynamic, true, {}), contains_text("no phase::dynamic"));
    CHECK_THROWS_WITH(n.forward(x, y, phase::quantized, true, {}), contains_text("codes where values"));
    CHECK_THROWS_WITH(n.forward(x, x, phase::fp32, true, {}), contains_text("must not be an input"));
    n.forward(x, y, phase::fp32, true, {});
    CHECK_THROWS_WITH(n.backward(e, d), contains_text("the size of dy is 23"));
    CHECK_THROWS_WITH(n.backward(d, e), contains_text("the size of dx is 23"));
    n.gamma = buffer<float>(3);
    CHECK_THROWS_WITH(n.forward(x, y, phase::fp32, true, {}), contains_text("the size of gamma"));

    gelu_layer<> l;
    CHECK_THROWS_WITH(l.backward(d, d), contains_text("needs a forward with training = true"));
    CHECK_THROWS_WITH(l.forward(x, y, phase::dynamic, true, {}), contains_text("no phase::dynamic"));
    CHECK_THROWS_WITH(l.forward(x, y, phase::quantized, true, {}), contains_text("codes where values"));
    CHECK_THROWS_WITH(l.forward(x, x, phase::fp32, true, {}), contains_text("must not be an input"));
    l.forward(x, y, phase::fp32, true, {});
    CHECK_THROWS_WITH(l.backward(e, d), contains_text("the size of dy is 23"));
    CHECK_THROWS_WITH(l.backward(d, e), contains_text("the size of dx is 23"));
    quantize_input(x, {0.05f, 128});
    gelu_layer<> fresh;
    CHECK_THROWS_WITH(fresh.forward(x, y, phase::quantized, false, {}), contains_text("never observed"));
}
