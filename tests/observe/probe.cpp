// SPDX-License-Identifier: Apache-2.0
//
// divergence and probe: values by hand from the formulas of their headers, the first mismatch at its place,
// merging against one pass, refusals.
#include "../catch.hpp"

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <notch/core/buffer.hpp>
#include <notch/observe/probe.hpp>

using namespace notch;

namespace {

const float inf = std::numeric_limits<float>::infinity(), not_a_number = std::numeric_limits<float>::quiet_NaN();

using floats = std::vector<float>;
using bytes = std::vector<std::uint8_t>;

bool same(const probed_version& a, const probed_version& b) {
    const divergence_sums &s = a.error.statistics(), &t = b.error.statistics();
    return a.batches == b.batches && a.values == b.values && a.nonfinite == b.nonfinite && a.codes == b.codes &&
           a.at_lo == b.at_lo && a.at_hi == b.at_hi && a.clipped == b.clipped && a.params == b.params &&
           a.range == b.range && a.dead_channels() == b.dead_channels() && s.compared == t.compared &&
           s.nonfinite == t.nonfinite && s.max_error == t.max_error && s.signal == Approx(t.signal).epsilon(1e-12) &&
           s.power == Approx(t.power).epsilon(1e-12) && s.product == Approx(t.product).epsilon(1e-12) &&
           s.noise == Approx(t.noise).epsilon(1e-12);
}
bool same(const probed_mismatch& a, const probed_mismatch& b) {
    return a.compared == b.compared && a.different == b.different && a.other_grids == b.other_grids &&
           a.batch == b.batch && a.index == b.index && a.fake_quantized == b.fake_quantized && a.integer == b.integer;
}

} // namespace

TEST_CASE("divergence: SQNR, cosine and largest error by hand") {
    divergence d;
    // r = (3, 4, 0), x = (3, 3.5, 0.5): signal 25, noise 0.5, product 23, power 21.5
    d.observe(floats{3, 4, 0}, floats{3, 3.5f, 0.5f});
    REQUIRE(d.statistics().signal == 25.0);
    REQUIRE(d.statistics().noise == 0.5);
    REQUIRE(d.statistics().product == 23.0);
    REQUIRE(d.statistics().power == 21.5);
    REQUIRE(d.sqnr_db() == Approx(16.989700043)); // 10 log10 50
    REQUIRE(d.cosine() == Approx(23.0 / std::sqrt(25.0 * 21.5)));
    REQUIRE(d.max_error() == 0.5);
    d.observe(floats{0}, floats{-2}); // another batch: noise 4.5, power 25.5
    REQUIRE(d.sqnr_db() == Approx(10.0 * std::log10(25.0 / 4.5)));
    REQUIRE(d.cosine() == Approx(23.0 / std::sqrt(25.0 * 25.5)));
    REQUIRE(d.max_error() == 2.0);
    REQUIRE(d.compared() == 4);
}

TEST_CASE("divergence: nothing, zeros, equal and opposite values") {
    divergence none;
    none.observe({}, {});
    REQUIRE(std::isnan(none.sqnr_db()));
    REQUIRE(std::isnan(none.cosine()));
    REQUIRE(none.max_error() == 0.0);

    divergence equal;
    equal.observe(floats{0.1f, -3, 1e-30f}, floats{0.1f, -3, 1e-30f});
    REQUIRE(equal.sqnr_db() == std::numeric_limits<double>::infinity());
    REQUIRE(equal.cosine() == 1.0);

    divergence opposite;
    opposite.observe(floats{1, 2}, floats{-1, -2});
    REQUIRE(opposite.cosine() == -1.0);
    REQUIRE(opposite.sqnr_db() == Approx(-6.0205999133)); // the error is twice the signal

    divergence zeros, lost, noise;
    zeros.observe(floats{0, 0}, floats{0, -0.0f});
    REQUIRE(zeros.cosine() == 1.0);
    REQUIRE(zeros.sqnr_db() == std::numeric_limits<double>::infinity());
    lost.observe(floats{1, 2}, floats{0, 0});
    REQUIRE(lost.cosine() == 0.0);
    REQUIRE(lost.sqnr_db() == 0.0);
    noise.observe(floats{0}, floats{1});
    REQUIRE(noise.sqnr_db() == -std::numeric_limits<double>::infinity());
}

TEST_CASE("divergence: values that are not finite are counted; no square overflows or vanishes") {
    divergence d;
    d.observe(floats{not_a_number, 1, inf, 2, -inf}, floats{1, inf, inf, 2, not_a_number});
    REQUIRE(d.nonfinite() == 4);
    REQUIRE(d.compared() == 1);
    REQUIRE(d.statistics().signal == 4.0);
    divergence large, small;
    large.observe(floats{FLT_MAX, -FLT_MAX}, floats{FLT_MAX, FLT_MAX});
    REQUIRE(large.sqnr_db() == Approx(-3.0102999566)); // 2 m^2 against (2 m)^2
    REQUIRE(large.max_error() == 2.0 * static_cast<double>(FLT_MAX));
    const float tiny = std::numeric_limits<float>::denorm_min();
    small.observe(floats{2 * tiny, tiny}, floats{tiny, tiny});
    REQUIRE(small.sqnr_db() == Approx(6.9897000434)); // 5 against 1
    REQUIRE_THROWS_WITH(d.observe(floats{1, 2}, floats{1}),
                        contains_text("divergence.observe: the size of x is 1, expected 2"));
}

TEST_CASE("probe: three versions of a layer by hand") {
    probe p;
    // Channels are columns. Grid 0.5 * (code - 2): reals from -1 to 126.5; half a step further is clipped.
    p.real()("conv", floats{-1.25f, 7, 0.5f, 7, -1.5f, 7, 126.8f, 7, 126.7f, 7}, 2);
    p.fake_quantized()("conv", bytes{0, 16, 3, 16, 0, 16, 255, 16, 255, 16}, {0.5f, 2}, 2);
    p.integer()("conv", bytes{0, 16, 3, 16, 0, 15, 255, 16, 255, 16}, {0.5f, 2}, 2);
    REQUIRE(p.batches() == 1);
    REQUIRE(p.size() == 1);
    const probed_layer& l = p["conv"];
    REQUIRE(&l == &p[0]);
    REQUIRE(l.channels == 2);

    REQUIRE(l.real.values == 10);
    REQUIRE(l.real.codes == 0);
    REQUIRE(l.real.clip_rate() == 0.0);
    REQUIRE(l.real.dead_channels() == 1);
    REQUIRE(l.real.range == real_range{-1.5f, 126.8f});
    REQUIRE(l.real.error.compared() == 0);

    const probed_version& f = l.fake_quantized;
    REQUIRE(f.at_lo == 2);
    REQUIRE(f.at_hi == 2);
    REQUIRE(f.clip_rate() == 0.4);
    REQUIRE(f.clipped == 2); // -1.5 and 126.8; -1.25 is the tie that still rounds to code 0, 126.7 is near enough
    REQUIRE(f.dead_channels() == 1);
    REQUIRE(f.range == real_range{-1.0f, 126.5f});
    REQUIRE(f.params == quant_params{0.5f, 2});
    // errors 0.25, 0, 0, 0, 0.5, 0, -0.3, 0, -0.2, 0
    REQUIRE(f.error.statistics().noise == Approx(0.0625 + 0.25 + 0.09 + 0.04).epsilon(1e-5));
    REQUIRE(f.error.max_error() == 0.5);
    REQUIRE(l.integer.error.statistics().noise == Approx(0.0625 + 0.25 + 0.25 + 0.09 + 0.04).epsilon(1e-5));
    REQUIRE(l.integer.dead_channels() == 0);

    REQUIRE(l.mismatch.compared == 10);
    REQUIRE(l.mismatch.different == 1);
    REQUIRE(l.mismatch.batch == 0);
    REQUIRE(l.mismatch.index == 5);
    REQUIRE(l.mismatch.fake_quantized == 16.0);
    REQUIRE(l.mismatch.integer == 15.0);
    REQUIRE(l.mismatch.other_grids == 0);
}

TEST_CASE("probe: the first mismatch has the batch and the index of that batch") {
    probe p;
    for (int batch = 0; batch < 4; ++batch) {
        bytes fake(6, 10), integer(6, 10);
        if (batch == 2) integer[4] = 11, integer[5] = 12;
        if (batch == 3) integer[0] = 99;
        p.next_batch();
        p.next_batch(); // again: nothing was shown between
        p.integer()("a", integer, {1.0f, 0}, 3);
        p.fake_quantized()("a", fake, {batch == 1 ? 2.0f : 1.0f, 0}, 3);
    }
    const probed_mismatch& m = p["a"].mismatch;
    REQUIRE(p.batches() == 4);
    REQUIRE(m.compared == 24);
    REQUIRE(m.different == 3);
    REQUIRE(m.batch == 2);
    REQUIRE(m.index == 4);
    REQUIRE(m.fake_quantized == 10.0);
    REQUIRE(m.integer == 11.0);
    REQUIRE(m.other_grids == 1);
}

TEST_CASE("probe: fake-quantized values without codes are put on the grid, values without grids compared") {
    probe p;
    p.fake_quantized()("codes", floats{-0.5f, 0.25f, 100, not_a_number}, 1);
    p.integer()("codes", std::vector<std::int8_t>{-2, 1, 7, 1}, {0.25f, 0}, 1, {-7, 7});
    REQUIRE(p["codes"].mismatch.different == 1);
    REQUIRE(p["codes"].mismatch.index == 3); // NaN is the zero point
    REQUIRE(p["codes"].mismatch.fake_quantized == 0.0);
    REQUIRE(p["codes"].integer.at_hi == 1);

    p.fake_quantized()("logits", floats{1.5f, not_a_number, 0, 2}, 4);
    p.integer()("logits", floats{1.5f, not_a_number, -0.0f, 2.0000002f}, 4);
    const probed_mismatch& m = p["logits"].mismatch;
    REQUIRE(m.compared == 4);
    REQUIRE(m.different == 1);
    REQUIRE(m.index == 3);
    REQUIRE(m.integer == static_cast<double>(2.0000002f));
    REQUIRE(p["logits"].integer.nonfinite == 1);
}

TEST_CASE("probe: the order in which versions are shown does not matter") {
    const floats real{0.1f, 0.9f, -0.4f, 3, 2, 1};
    const bytes fake{1, 9, 0, 30, 20, 10}, integer{1, 8, 0, 31, 20, 10};
    const auto show = [&](probe& p, int version) {
        if (version == 0) p.real()("a", real, 3);
        if (version == 1) p.fake_quantized()("a", fake, {0.1f, 0}, 3);
        if (version == 2) p.integer()("a", integer, {0.1f, 0}, 3);
    };
    probe first;
    for (int v : {0, 1, 2}) show(first, v);
    REQUIRE(first["a"].mismatch.different == 2);
    const int orders[][3] = {{0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (const auto& order : orders) {
        probe p;
        for (int v : order) show(p, v);
        REQUIRE(same(p["a"].real, first["a"].real));
        REQUIRE(same(p["a"].fake_quantized, first["a"].fake_quantized));
        REQUIRE(same(p["a"].integer, first["a"].integer));
        REQUIRE(same(p["a"].mismatch, first["a"].mismatch));
    }
}

TEST_CASE("probe: merging is as if the batches of the other had followed") {
    std::mt19937 g(5);
    std::normal_distribution<float> normal;
    for (int round = 0; round < 20; ++round) {
        probe whole, parts[3];
        for (probe& part : parts) {
            const int batches = static_cast<int>(g() % 4);
            for (int b = 0; b < batches; ++b) {
                const std::size_t n = 4 * (g() % 30);
                floats real(n);
                bytes fake(n), integer(n);
                for (std::size_t i = 0; i < n; ++i) {
                    real[i] = i % 4 == 1 ? 0.5f : normal(g);
                    if (g() % 40 == 0) real[i] = g() % 2 ? not_a_number : -inf;
                    fake[i] = static_cast<std::uint8_t>(ref::quantize(real[i], {0.05f, 40}, {0, 255}));
                    integer[i] = static_cast<std::uint8_t>(fake[i] ^ (g() % 60 == 0));
                }
                const bool other = g() % 3 == 0; // a layer that not every batch shows
                for (probe* p : {&whole, &part}) {
                    p->real()("a", real, 4);
                    p->fake_quantized()("a", fake, {0.05f, 40}, 4);
                    p->integer()("a", integer, {0.05f, other ? 41 : 40}, 4);
                    if (other) p->integer()("b", integer, {0.05f, 40}, 2);
                    p->next_batch();
                }
            }
        }
        parts[1].merge(parts[2]);
        parts[0].merge(parts[1]);
        REQUIRE(parts[0].batches() == whole.batches());
        REQUIRE(parts[0].size() == whole.size());
        for (index_t i = 0; i < whole.size(); ++i) {
            CAPTURE(round, whole[i].name);
            const probed_layer& merged = parts[0][whole[i].name];
            REQUIRE(same(merged.real, whole[i].real));
            REQUIRE(same(merged.fake_quantized, whole[i].fake_quantized));
            REQUIRE(same(merged.integer, whole[i].integer));
            REQUIRE(same(merged.mismatch, whole[i].mismatch));
        }
    }
    probe twice;
    twice.real()("a", floats{1, 2}, 1);
    twice.merge(twice);
    REQUIRE(twice.batches() == 2);
    REQUIRE(twice["a"].real.values == 4);
}

TEST_CASE("probe: a dead channel must stay the same over all batches") {
    probe p;
    for (float v : {1.0f, 1.0f, 2.0f}) {
        p.next_batch();
        p.real()("a", floats{v, 5, not_a_number, v, 5, not_a_number}, 3);
        REQUIRE(p["a"].real.dead_channels() == (v == 1.0f ? 2 : 1)); // of NaN alone nothing is known
    }
    REQUIRE(p["a"].real.nonfinite == 6);
}

TEST_CASE("probe: a tap of no probe does nothing; anything with the members of an activation is shown") {
    struct {
        buffer<float> values{4};
        buffer<std::uint8_t> codes{4};
        quant_params params{0.5f, 3};
        index_t c = 2;
        bool quantized = false;
    } a;
    tap nothing;
    nothing("a", a);
    nothing("a", floats{1}, 17);
    REQUIRE(!nothing);
    probe p;
    REQUIRE(p.real());
    p.real()("a", a);
    a.quantized = true;
    p.integer()("a", a);
    REQUIRE(p["a"].channels == 2);
    REQUIRE(p["a"].real.codes == 0);
    REQUIRE(p["a"].integer.codes == 4);
    REQUIRE(p["a"].integer.range == real_range{-1.5f, -1.5f});
    p.integer()("empty", bytes{}, {1.0f, 0}, 3);
    REQUIRE(p["empty"].integer.clip_rate() == 0.0);
    REQUIRE(p["empty"].integer.dead_channels() == 0);
}

TEST_CASE("probe: refusals name the layer and change nothing") {
    probe p;
    p.real()("conv1", floats{1, 2, 3, 4}, 2);
    const auto refused = [&](const auto& call, const char* text) { REQUIRE_THROWS_WITH(call(), contains_text(text)); };
    refused(
        [&] {
            p.integer()("conv1", bytes{1, 2}, {1.0f, 0}, 2);
        },
        "layer \"conv1\", integer: has 2 values, real has 4");
    refused(
        [&] {
            p.integer()("conv1", bytes{1, 2, 3, 4}, {1.0f, 0}, 4);
        },
        "layer \"conv1\": the number of channels is 4, expected 2");
    refused(
        [&] {
            p.fake_quantized()("conv1", floats{1, 2, 3}, 2);
        },
        "layer \"conv1\", fake-quantized: 3 values do not divide into 2 channels");
    refused([&] { p.real()("conv2", floats{1}, 0); }, "1 values do not divide into 0 channels");
    refused([&] { p.real()("conv1", floats{1, 2, 3, 4}, 2); }, "layer \"conv1\", real: shown twice in one batch");
    refused([&] { p.real()("", floats{1}, 1); }, "the name of a layer is empty");
    for (float scale : {0.0f, -1.0f, inf, not_a_number})
        refused(
            [&] {
                p.integer()("conv1", bytes{1, 2, 3, 4}, {scale, 0}, 2);
            },
            "layer \"conv1\", integer: params.scale is");
    refused([&] { p.integer()("conv1", bytes{1, 2, 3, 4}, {1.0f, 256}, 2); }, "params.zero_point is 256");
    refused([&] { p.integer()("conv1", bytes{1, 2, 3, 4}, {1.0f, 3}, 2, {3, 2}); }, "codes in 3..2");
    refused([&] { p.integer()("conv1", bytes{1, 2, 3, 4}, {1.0f, 3}, 2, {0, 256}); }, "must be a range within 0..255");
    refused(
        [&] {
            p.integer()("conv1", bytes{1, 2, 3, 4}, {1.0f, 3}, 2, {1, 3});
        },
        "layer \"conv1\", integer: code 3 is 4, outside its range 1..3");
    refused(
        [&] {
            p.fake_quantized()("conv1", std::vector<std::int8_t>{-7, 7, -8, 7}, {1.0f, 0}, 2, {-7, 7});
        },
        "layer \"conv1\", fake-quantized: code 2 is -8, outside its range -7..7");
    refused([&] { p.real()("conv2", std::span<const float>(static_cast<float*>(nullptr), 4), 2); }, "values is null");
    refused([&] { (void)p["conv9"]; }, "no layer \"conv9\" among its 1");
    refused([&] { (void)p[1]; }, "layer 1 of 1");
    REQUIRE(p.size() == 1);
    REQUIRE(p.batches() == 1);
    REQUIRE(p["conv1"].integer.batches == 0);

    probe other;
    other.real()("new", floats{1}, 1);
    other.real()("conv1", floats{1, 2, 3}, 3);
    refused([&] { p.merge(other); }, "probe.merge: layer \"conv1\": the number of channels is 3, expected 2");
    REQUIRE(p.size() == 1);
    p.integer()("conv1", bytes{1, 2, 3, 4}, {1.0f, 0}, 2); // the batch goes on
    REQUIRE(p["conv1"].integer.error.sqnr_db() == std::numeric_limits<double>::infinity());
}
