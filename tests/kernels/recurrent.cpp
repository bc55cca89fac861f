// SPDX-License-Identifier: Apache-2.0
#include "../catch.hpp"

#include <cmath>
#include <utility>
#include <vector>

#include <notch/kernels/recurrent.hpp>

#include "../guard_page.hpp"
#include "team.hpp"

using namespace notch;
using u8 = std::uint8_t;
using s16 = std::int16_t;
using s32 = std::int32_t;

namespace {

/// One call of step, with every view a slice of wider rows that end at a page without access.
template <class Ref, class Step>
void check(std::mt19937& g, index_t gates, index_t kept, index_t rows, index_t hidden, const recurrent_params& p,
           const Ref& ref, const Step& step) {
    const index_t pad = static_cast<index_t>(g() % 3);
    const auto stride = [&](index_t blocks) { return blocks * hidden + pad; };
    const auto size = [&](index_t blocks) {
        return static_cast<std::size_t>(rows > 0 ? (rows - 1) * stride(blocks) + blocks * hidden : 0);
    };
    const guard side = g() % 2 ? guard::before : guard::after;
    const bool extremes = g() % 2;
    const guarded<s16> wx(random_codes<s16>(g, size(gates), -32768, 32767, extremes), side),
        uh(random_codes<s16>(g, size(gates), -32768, 32767, extremes), side);
    const guarded<s32> state(random_codes<s32>(g, size(1), -(1 << 30), (1 << 30) - 1, extremes), side);
    const auto view = [&](auto& v, index_t blocks) {
        return matrix_view(v.data(), rows, blocks * hidden, stride(blocks));
    };
    const auto read = [&](const auto& v, index_t blocks) {
        return matrix_view(&std::as_const(*v.data()), rows, blocks * hidden, stride(blocks));
    };
    std::vector<s32> want_next(size(1), 77);
    std::vector<s16> want_gates(size(kept), 77);
    std::vector<u8> want_h(size(1), 77);
    ref(read(wx, gates), read(uh, gates), read(state, 1), p, view(want_next, 1), view(want_h, 1),
        view(want_gates, kept));
    for (isa i : available_isas())
        for (index_t threads : {1, 2, 3}) {
            if (threads > 1 && rows * hidden < 500) continue;
            const thread_team team{threads};
            const context ctx(i, team);
            INFO(to_string(i) << " " << rows << " x " << hidden << " threads " << threads);
            guarded<s32> next(std::vector<s32>(size(1), 77), side);
            guarded<s16> trace(std::vector<s16>(size(kept), 77), side);
            guarded<u8> h(std::vector<u8>(size(1), 77), side);
            step(read(wx, gates), read(uh, gates), read(state, 1), p, view(next, 1), view(h, 1), view(trace, kept),
                 ctx);
            CHECK(std::vector<s32>(next.begin(), next.end()) == want_next);
            CHECK(std::vector<u8>(h.begin(), h.end()) == want_h);
            CHECK(std::vector<s16>(trace.begin(), trace.end()) == want_gates);
            guarded<s32> in_place(state, side); // and without gates
            step(read(wx, gates), read(uh, gates), read(in_place, 1), p, view(in_place, 1), view(h, 1),
                 matrix_view<s16>{}, ctx);
            for (index_t r = 0; r < rows; ++r)
                for (index_t c = 0; c < hidden; ++c)
                    CHECK(view(in_place, 1)(r, c) == want_next[static_cast<std::size_t>(r * stride(1) + c)]);
            CHECK(std::vector<u8>(h.begin(), h.end()) == want_h);
        }
}

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

} // namespace

TEST_CASE("gate tables: all inputs are as near as they say") {
    const gate_table s = make_sigmoid_table(), t = make_tanh_table();
    double s_worst = 0, t_worst = 0;
    for (int z = -32768; z <= 32767; ++z) {
        s_worst = std::max(s_worst, std::fabs(s(z) - 32768.0 * sigmoid(z / 4096.0)));
        t_worst = std::max(t_worst, std::fabs(t(z) - 32768.0 * std::tanh(z / 4096.0)));
        if (s(z) < 1 || s(z) > 32766 || t(z) < -32767 || t(z) > 32767) FAIL("out of range at " << z);
        if (z > -32768 && (s(z) < s(z - 1) || t(z) < t(z - 1))) FAIL("falls at " << z);
    }
    INFO(s_worst << " " << t_worst);
    CHECK(s_worst <= 1.2);
    CHECK(t_worst <= 2.6);
    CHECK(s_worst > 1.0); // the docstring says no more than it must
    CHECK(t_worst > 2.2);
    CHECK(s(0) == 16384);
    CHECK(t(0) == 0);
}

TEST_CASE("every kernel looks gates up as the table does, for all inputs") {
    // A GRU with uh = 0, z = 0 and a state of 0 shows tanh(wx), and its gates are sigmoid(wx).
    const recurrent_params p = make_recurrent({1.0f / 128.0f, 128});
    const index_t n = 65536;
    std::vector<s16> wx(3 * n), uh(3 * n), gates(3 * n);
    std::vector<s32> state(n), next(n);
    std::vector<u8> h(n);
    for (index_t j = 0; j < 3 * n; ++j) wx[static_cast<std::size_t>(j)] = static_cast<s16>(j % n - 32768);
    for (isa i : available_isas()) {
        gru_step({wx.data(), 1, 3 * n}, {uh.data(), 1, 3 * n}, {state.data(), 1, n}, p, {next.data(), 1, n},
                 {h.data(), 1, n}, {gates.data(), 1, 3 * n}, context(i));
        index_t different = 0;
        for (int z = -32768; z <= 32767; ++z) {
            const auto at = static_cast<std::size_t>(z + 32768), step = static_cast<std::size_t>(n);
            different +=
                gates[at] != p.sigmoid(z) || gates[at + step] != p.sigmoid(z) || gates[at + 2 * step] != p.tanh(z);
        }
        INFO(to_string(i));
        CHECK(different == 0);
    }
}

TEST_CASE("lstm_step and gru_step agree with ref on every instruction set") {
    std::mt19937 g(1);
    const auto lstm = [&](index_t rows, index_t hidden) {
        const float cell_scale = g() % 2 ? 0.0f : std::ldexp(1.0f, -8 - static_cast<int>(g() % 8));
        const recurrent_params p = make_recurrent({g() % 4   ? 0.0079f
                                                   : g() % 2 ? 0x1p-15f
                                                             : 1.0f,
                                                   static_cast<int>(g() % 256)},
                                                  cell_scale);
        check(
            g, 4, 5, rows, hidden, p, [](const auto&... a) { ref::lstm_step(a...); },
            [](const auto&... a) { lstm_step(a...); });
    };
    const auto gru = [&](index_t rows, index_t hidden) {
        const recurrent_params p = make_recurrent({g() % 4   ? 0.0079f
                                                   : g() % 2 ? 0x1p-15f
                                                             : 1.0f,
                                                   static_cast<int>(g() % 256)});
        check(
            g, 3, 3, rows, hidden, p, [](const auto&... a) { ref::gru_step(a...); },
            [](const auto&... a) { gru_step(a...); });
    };
    for (index_t hidden = 0; hidden <= 67; ++hidden) {
        lstm(3, hidden);
        gru(3, hidden);
    }
    for (index_t rows : {0, 1, 9}) {
        lstm(rows, 200);
        gru(rows, 200);
    }
    lstm(70, 129);
    gru(70, 129);
}

TEST_CASE("lstm_step and gru_step: values by hand") {
    // z = 0 in all gates: i = f = o = 0.5, g = 0; c halves, h = tanh(c') / 2.
    const recurrent_params p = make_recurrent({1.0f / 256.0f, 128});
    constexpr s32 one = 1 << 23, most = (1 << 30) - 1;
    const s16 zero[4] = {};
    const s32 c[1] = {2 * one};
    for (isa i : available_isas()) {
        s32 next[1];
        s16 gates[5];
        u8 h[1];
        lstm_step({zero, 1, 4}, {zero, 1, 4}, {c, 1, 1}, p, {next, 1, 1}, {h, 1, 1}, {gates, 1, 5}, context(i));
        CHECK(next[0] == one);
        CHECK(h[0] == 128 + 97);                // tanh(1) / 2 = 0.38080 = 97.48 / 256
        CHECK(gates[0] == 16384);               // sigmoid(0)
        CHECK(std::abs(gates[4] - 24956) <= 2); // tanh(1)
        // Half a unit rounds up, also where it comes from the low half of c.
        for (s32 odd : {1, 32769, -1}) {
            const s32 small[1] = {odd};
            lstm_step({zero, 1, 4}, {zero, 1, 4}, {small, 1, 1}, p, {next, 1, 1}, {h, 1, 1}, {}, context(i));
            CHECK(next[0] == (odd + 1) / 2);
        }
        // Open input and forget gates: c forgets the least that it can, and adds g = 1.
        const s16 open[4] = {32767, 32767, 32767, 32767};
        const s32 full[1] = {most};
        lstm_step({open, 1, 4}, {zero, 1, 4}, {full, 1, 1}, p, {next, 1, 1}, {h, 1, 1}, {}, context(i));
        CHECK(next[0] == most); // 128 * (1 - 3.4e-4) + 1 saturates
        // GRU: r = z = 0.5; wx = 0.5, uh = 1: n = tanh(0.5 + 0.5 * 1), and the mean of that and the state.
        const recurrent_params q = make_recurrent({1.0f / 128.0f, 0});
        const s16 wx[3] = {0, 0, 2048}, uh[3] = {0, 0, 4096};
        const s32 state[1] = {-(1 << 29)};
        gru_step({wx, 1, 3}, {uh, 1, 3}, {state, 1, 1}, q, {next, 1, 1}, {h, 1, 1}, {gates, 1, 3}, context(i));
        CHECK(std::fabs(next[0] * 0x1p-30 - (std::tanh(1.0) - 0.5) / 2) < 1e-4);
        CHECK(h[0] == 17); // 0.1308 * 128 = 16.7
    }
}

TEST_CASE("lstm_step with a c of 16 bits: values by hand") {
    // Gates at 0: c halves, on the grid of the scale. The other gates open: c + 1 - 2^-15 at most.
    const s16 zero[4] = {}, open[4] = {32767, 32767, 32767, 32767};
    for (isa i : available_isas())
        for (int e : {-8, -11, -15}) {
            const recurrent_params p = make_recurrent({1.0f / 128.0f, 128}, std::ldexp(1.0f, e));
            const s32 unit = 1 << (23 + e);
            const auto step = [&](const s16* wx, s32 c) {
                s32 next[1];
                u8 h[1];
                lstm_step({wx, 1, 4}, {zero, 1, 4}, {&c, 1, 1}, p, {next, 1, 1}, {h, 1, 1}, {}, context(i));
                return next[0];
            };
            CHECK(step(zero, 6 * unit) == 3 * unit);
            CHECK(step(zero, 5 * unit) == 3 * unit);   // 2.5 rounds up
            CHECK(step(zero, -5 * unit) == -2 * unit); // and -2.5
            CHECK(step(zero, unit) == unit);           // what a c of 31 bits would let go
            CHECK(step(open, 32767 * unit) <= 32767 * unit);
            if (e == -15) CHECK(step(open, 32767 * unit) == 32767 * unit); // 1 + 1 saturates
            const s16 down[4] = {32767, 32767, -32768, 0};
            if (e == -15) CHECK(step(down, -32768 * unit) == -32768 * unit);
        }
    CHECK(make_recurrent({0.01f, 0}, 0x1p-11f).cell_shift == 12);
    for (float scale : {0x1p-16f, 0x1p-7f, 0.3f, -0x1p-11f, std::nanf("")})
        CHECK(error_text(errc::invalid_argument, [&] {
                  (void)make_recurrent({0.01f, 0}, scale);
              }).find("cell_scale") != std::string::npos);
}

TEST_CASE("a state is let go, however slowly") {
    // The gate that keeps is as near 1 as it gets, 1 - 3.4e-4: int16 would hold c where a step changes half a unit.
    const recurrent_params p = make_recurrent({1.0f / 128.0f, 128});
    const s16 wx[4] = {-32768, 32767, 0, 0}, zero[4] = {};
    s32 c[1] = {40 << 23};
    u8 h[1];
    for (int t = 0; t < 30000; ++t) lstm_step({wx, 1, 4}, {zero, 1, 4}, {c, 1, 1}, p, {c, 1, 1}, {h, 1, 1});
    const double keep = p.sigmoid(32767) / 32768.0;
    CHECK(c[0] * 0x1p-23 == Approx(40.0 * std::pow(keep, 30000)).epsilon(0.02)); // 0.0016
    const s16 hold[3] = {0, 32767, 0};
    s32 state[1] = {1 << 29};
    for (int t = 0; t < 30000; ++t) gru_step({hold, 1, 3}, {zero, 1, 3}, {state, 1, 1}, p, {state, 1, 1}, {h, 1, 1});
    CHECK(state[0] * 0x1p-30 == Approx(0.5 * std::pow(keep, 30000)).epsilon(0.02)); // 0.00002
}

TEST_CASE("a chain of steps stays near the cell in real numbers") {
    std::mt19937 g(5);
    const index_t hidden = 40;
    const recurrent_params p = make_recurrent({1.0f / 127.0f, 128});
    std::vector<s32> c(static_cast<std::size_t>(hidden));
    std::vector<s16> wx(4 * c.size()), uh(4 * c.size());
    std::vector<u8> h(c.size());
    std::vector<double> real(c.size());
    double worst = 0;
    for (int t = 0; t < 200; ++t) {
        for (s16& v : wx) v = static_cast<s16>(static_cast<int>(g() % 16384) - 8192);
        lstm_step({wx.data(), 1, 4 * hidden}, {uh.data(), 1, 4 * hidden}, {c.data(), 1, hidden}, p,
                  {c.data(), 1, hidden}, {h.data(), 1, hidden});
        for (std::size_t j = 0; j < real.size(); ++j) {
            const auto z = [&](std::size_t k) { return wx[k * real.size() + j] / 4096.0; };
            real[j] = sigmoid(z(1)) * real[j] + sigmoid(z(0)) * std::tanh(z(2));
            worst = std::max(worst, std::fabs(real[j] - c[j] * 0x1p-23));
            const double out = sigmoid(z(3)) * std::tanh(real[j]);
            CHECK(std::fabs(out - (h[j] - 128) / 127.0) < 0.5 / 127.0 + 0.001);
        }
    }
    CHECK(worst < 0.0005); // gates are 2^-14 off, and f <= 0.88 forgets that
}

TEST_CASE("recurrent steps refuse what does not fit") {
    const s16 in[8] = {};
    s16 trace[8];
    s32 out[8] = {};
    u8 h[2];
    const recurrent_params p = make_recurrent({1.0f / 128.0f, 128});
    const auto invalid = errc::invalid_argument;
    const auto run = [&](index_t wx, index_t uh, index_t c, index_t gates, const recurrent_params& params) {
        lstm_step({in, 1, wx}, {in, 1, uh}, {out, 1, c}, params, {out, 1, 2}, {h, 1, 2},
                  gates ? matrix_view<s16>{trace, 1, gates} : matrix_view<s16>{});
    };
    run(8, 8, 2, 0, p);
    const auto shape = errc::shape_mismatch;
    CHECK(error_text(shape, [&] { run(7, 8, 2, 0, p); }).find("columns of wx") != std::string::npos);
    CHECK(error_text(shape, [&] { run(8, 6, 2, 0, p); }).find("columns of uh") != std::string::npos);
    CHECK(error_text(shape, [&] { run(8, 8, 1, 0, p); }).find("columns of the state") != std::string::npos);
    CHECK(error_text(shape, [&] { run(8, 8, 2, 8, p); }).find("columns of the gates") != std::string::npos);
    CHECK(error_text(invalid, [&] { run(8, 8, 2, 0, recurrent_params{}); }).find("make_recurrent") !=
          std::string::npos);
    CHECK(error_text(invalid, [&] { (void)make_recurrent({0x1p-16f, 0}); }).find("h.scale") != std::string::npos);
    CHECK(error_text(invalid, [&] { (void)make_recurrent({2.0f, 0}); }).find("h.scale") != std::string::npos);
    CHECK(error_text(invalid, [&] { (void)make_recurrent({0.01f, 256}); }).find("h.zero_point") != std::string::npos);
    CHECK(error_text(invalid, [&] {
              gru_step({nullptr, 1, 6}, {in, 1, 6}, {out, 1, 2}, p, {out, 1, 2}, {h, 1, 2});
          }).find("wx is null") != std::string::npos);
}
