// SPDX-License-Identifier: Apache-2.0
//
// Convolutions of every kind on every instruction set, bit for bit as ref/ defines them: random shapes and
// edges, extreme codes, all kinds of output, slices, several threads, buffers that end at a guard page.
#include "../catch.hpp"

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include <notch/notch.hpp>

#include "../guard_page.hpp"
#include "team.hpp"

using namespace notch;

namespace {

using rng = std::mt19937;
index_t pick(rng& g, index_t lo, index_t hi) {
    return lo + static_cast<index_t>(g() % static_cast<unsigned>(hi - lo + 1));
}

enum class fill { random, extreme, small };

struct problem {
    index_t n = 1, h = 1, w = 1, c = 1, out = 1, groups = 1;
    window s;
    bool transposed = false;
    index_t output_pad_h = 0, output_pad_w = 0;
    bool slices = false; ///< x and y lie inside larger images
    fill codes = fill::random;
    index_t threads = 1;
    bool zeros = false; ///< the zero_point is the lowest code: padding adds nothing
};

std::string describe(const problem& p, isa i) {
    const window& s = p.s;
    return detail::cat(to_string(i), p.transposed ? " transposed " : " ", p.n, "x", p.h, "x", p.w, "x", p.c, " -> ",
                       p.out, " groups ", p.groups, " kernel ", s.kernel_h, "x", s.kernel_w, " stride ", s.stride_h,
                       "x", s.stride_w, " dilation ", s.dilation_h, "x", s.dilation_w, " pads ", s.pad_top, " ",
                       s.pad_left, " ", s.pad_bottom, " ", s.pad_right, " output pads ", p.output_pad_h, " ",
                       p.output_pad_w, p.slices ? " slices" : "", p.zeros ? " zeros" : "", " threads ", p.threads);
}

/// A view that ends with the last element of memory of exactly its size.
template <class T> struct image {
    index_t pixel, line, whole;
    guarded<T> memory;
    nhwc_view<T> view;

    image(index_t n, index_t h, index_t w, index_t c, bool slice)
        : pixel(slice ? c + 3 : c), line(w * pixel + (slice ? 5 : 0)), whole(h * line + (slice ? 7 : 0)),
          memory(n * h * w * c == 0 ? 0 : (n - 1) * whole + (h - 1) * line + (w - 1) * pixel + c),
          view(memory.data(), n, h, w, c, whole, line, pixel) {}
};

template <class Packed> index_t workspace_of(const Packed& w, const problem& p, const context& ctx) {
    if constexpr (std::is_same_v<Packed, packed_transposed>)
        return conv2d_transposed_workspace_size(w, p.n, p.h, p.w, ctx);
    else
        return conv2d_workspace_size(w, p.n, p.h, p.w, ctx);
}
template <class X, class E, class Y>
void run(nhwc_view<const X> x, const packed_weights& w, const E& ep, nhwc_view<Y> y, const context& ctx) {
    conv2d(x, w, ep, y, ctx);
}
template <class X, class E, class Y>
void run(nhwc_view<const X> x, const packed_transposed& w, const E& ep, nhwc_view<Y> y, const context& ctx) {
    conv2d_transposed(x, w, ep, y, ctx);
}

/// Runs the kernel into an image of the element type of the epilogue and compares with expected(acc, channel).
template <class X, class Packed, class Out, class F, class Expected>
void compare(const image<X>& x, const Packed& w, const epilogue<Out, F>& ep, const image<std::int32_t>& acc,
             const problem& p, isa i, const Expected& expected) {
    const thread_team threads{p.threads};
    context ctx(i, threads);
    image<Out> y(acc.view.n, acc.view.h, acc.view.w, acc.view.c, p.slices);
    std::memset(static_cast<void*>(y.memory.data()), 0x5a, y.memory.size() * sizeof(Out));
    const guarded<std::byte> memory(workspace_of(w, p, ctx));
    ctx.workspace = {memory.data(), memory.size()};
    run<X>(nhwc_view<const X>(x.view), w, ep, y.view, ctx);
    Out untouched;
    std::memset(static_cast<void*>(&untouched), 0x5a, sizeof(Out));
    std::vector<Out> want(y.memory.size(), untouched);
    for (index_t n = 0; n < y.view.n; ++n)
        for (index_t r = 0; r < y.view.h; ++r)
            for (index_t c = 0; c < y.view.w; ++c)
                for (index_t o = 0; o < y.view.c; ++o)
                    want[static_cast<std::size_t>(n * y.view.stride_n + r * y.view.stride_h + c * y.view.stride_w +
                                                  o)] = static_cast<Out>(expected(acc.view(n, r, c, o), o));
    const bool same = want.empty() || std::memcmp(want.data(), y.memory.data(), want.size() * sizeof(Out)) == 0;
    INFO(describe(p, i));
    CHECK(same);
}

template <class X, class Packed>
void check_outputs(rng& g, const image<X>& x, const Packed& w, const std::vector<std::int32_t>& bias,
                   std::int32_t zero_point, const image<std::int32_t>& acc, const problem& p, isa i, bool all) {
    constexpr bool is_signed = std::is_signed_v<X>;
    const auto make = [&](const auto&... stages) {
        if constexpr (is_signed)
            return make_epilogue(w, stage::s8_input{}, stage::bias{bias}, stages...);
        else
            return make_epilogue(w, stage::bias{bias}, stages...);
    };
    compare(x, w, make(stage::accumulators{zero_point}), acc, p, i, [](std::int32_t a, index_t) { return a; });
    std::vector<float> ws(static_cast<std::size_t>(p.out));
    for (float& v : ws) v = 1e-4f * static_cast<float>(1 + g() % 1000);
    const quant_params xp{0.013f, zero_point}, yp{0.05f, static_cast<std::int32_t>(g() % 256)},
        sp{0.05f, yp.zero_point - 128};
    const auto m = [&](index_t c) {
        return static_cast<double>(xp.scale) * static_cast<double>(ws[static_cast<std::size_t>(c)]) /
               static_cast<double>(yp.scale);
    };
    compare(x, w, make(stage::requantize{xp, ws, yp}), acc, p, i, [&](std::int32_t a, index_t c) {
        return requantize_float(a, static_cast<float>(m(c)), yp.zero_point, {0, 255});
    });
    compare(x, w, make(stage::requantize{xp, ws, yp}, stage::relu{}), acc, p, i, [&](std::int32_t a, index_t c) {
        return requantize_float(a, static_cast<float>(m(c)), yp.zero_point, {yp.zero_point, 255});
    });
    if (!all) return;
    compare(x, w, make(stage::requantize<affine_signed<8>>{xp, ws, sp}), acc, p, i, [&](std::int32_t a, index_t c) {
        return requantize_float(a, static_cast<float>(m(c)), sp.zero_point, {-128, 127});
    });
    compare(x, w, make(stage::requantize<affine_signed<16>>{xp, ws, sp}), acc, p, i, [&](std::int32_t a, index_t c) {
        return requantize_float(a, static_cast<float>(m(c)), sp.zero_point, {-32768, 32767});
    });
    compare(x, w, make(stage::requantize_fixed{xp, ws, yp}), acc, p, i, [&](std::int32_t a, index_t c) {
        return requantize_fixed_double(a, to_fixed_multiplier(m(c)), yp.zero_point, {0, 255});
    });
    const auto real = [&](std::int32_t a, index_t c) {
        return static_cast<float>(a) *
               static_cast<float>(static_cast<double>(xp.scale) * static_cast<double>(ws[static_cast<std::size_t>(c)]));
    };
    compare(x, w, make(stage::dequantize{xp, ws}), acc, p, i, real);
    std::vector<float> rb(static_cast<std::size_t>(p.out));
    for (float& v : rb) v = 0.25f * static_cast<float>(g() % 100);
    compare(x, w, make(stage::dequantize{xp, ws}, stage::real_bias{rb}), acc, p, i, [&](std::int32_t a, index_t c) {
        volatile float product = real(a, c);
        return product + rb[static_cast<std::size_t>(c)];
    });
    const auto twice = [](const tile<std::int32_t>& t) {
        for (index_t r = 0; r < t.rows; ++r)
            for (index_t c = 0; c < t.cols; ++c)
                t(r, c) =
                    t(r, c) / 2 + static_cast<std::int32_t>(t.row + r) + 1000 * static_cast<std::int32_t>(t.col + c);
    };
    image<std::int32_t> want(acc.view.n, acc.view.h, acc.view.w, acc.view.c, false);
    for (index_t k = 0; k < acc.view.n * acc.view.h * acc.view.w; ++k)
        for (index_t c = 0; c < acc.view.c; ++c)
            want.memory[static_cast<std::size_t>(k * acc.view.c + c)] =
                acc.memory[static_cast<std::size_t>(k * acc.view.c + c)] / 2 + static_cast<std::int32_t>(k + 1000 * c);
    compare(x, w, make(stage::accumulators{zero_point}, stage::on_tile{twice}), want, p, i,
            [](std::int32_t a, index_t) { return a; });
}

template <class X> void check(rng& g, const problem& p, bool all = false) {
    image<X> x(p.n, p.h, p.w, p.c, p.slices);
    std::vector<std::int8_t> w(static_cast<std::size_t>(p.out * p.s.kernel_h * p.s.kernel_w * (p.c / p.groups)));
    for (X& v : x.memory)
        v = static_cast<X>(p.codes == fill::extreme ? (g() % 2 ? 255 : 0) + (std::is_signed_v<X> ? 128 : 0) : g());
    for (auto& v : w)
        v = static_cast<std::int8_t>(p.codes == fill::extreme ? (g() % 2 ? 127 : -128)
                                     : p.codes == fill::small ? static_cast<int>(g() % 129) - 64
                                                              : static_cast<int>(g()));
    std::vector<std::int32_t> bias(static_cast<std::size_t>(p.out));
    for (auto& v : bias) v = static_cast<std::int32_t>(g() % 20001) - 10000;
    const std::int32_t zero_point =
        (p.zeros ? 0 : static_cast<std::int32_t>(g() % 256)) - (std::is_signed_v<X> ? 128 : 0);
    const transposed_window shape{p.s, p.output_pad_h, p.output_pad_w};
    image<std::int32_t> acc(p.n, p.transposed ? shape.out_h(p.h) : p.s.out_h(p.h),
                            p.transposed ? shape.out_w(p.w) : p.s.out_w(p.w), p.out, false);
    const nhwc_view<const X> in(x.view);
    if (p.transposed) {
        ref::conv2d_transposed<X>(in, zero_point, w, p.s, bias, acc.view, p.groups);
        const auto packed = pack_conv2d_transposed(w, p.out, p.c, shape, p.groups);
        for (isa i : available_isas()) check_outputs(g, x, packed, bias, zero_point, acc, p, i, all);
    } else {
        ref::conv2d<X>(in, zero_point, w, p.s, bias, acc.view, p.groups);
        const auto packed = pack_conv2d(w, p.out, p.c, p.s, p.groups);
        for (isa i : available_isas()) check_outputs(g, x, packed, bias, zero_point, acc, p, i, all);
    }
}

window random_window(rng& g, index_t most) {
    window s;
    s.kernel_h = pick(g, 1, most);
    s.kernel_w = pick(g, 1, most);
    s.stride_h = pick(g, 1, 3);
    s.stride_w = pick(g, 1, 3);
    s.dilation_h = pick(g, 1, 4) == 4 ? 2 : 1;
    s.dilation_w = pick(g, 1, 4) == 4 ? pick(g, 2, 3) : 1;
    if (g() % 4) {
        s.pad_top = pick(g, 0, 2);
        s.pad_left = pick(g, 0, 2);
        s.pad_bottom = pick(g, 0, 2);
        s.pad_right = pick(g, 0, 2);
    }
    return s;
}

problem random_problem(rng& g) {
    const index_t channels[] = {1, 2, 3, 4, 5, 7, 8, 11, 16, 17, 32, 35};
    const index_t outputs[] = {1, 3, 8, 15, 16, 17, 24, 33, 48, 50, 64, 65, 80, 100};
    problem p;
    p.n = pick(g, 1, 2);
    p.h = pick(g, 1, 9);
    p.w = pick(g, 1, 13);
    p.c = channels[g() % 12];
    p.out = outputs[g() % 14];
    p.s = random_window(g, 5);
    p.slices = g() % 3 == 0;
    p.codes = static_cast<fill>(g() % 3);
    p.threads = g() % 3 == 0 ? pick(g, 2, 7) : 1;
    p.zeros = g() % 3 == 0;
    return p;
}

void check_any(rng& g, const problem& p, bool all = false) {
    if (g() % 3 == 0)
        check<std::int8_t>(g, p, all);
    else
        check<std::uint8_t>(g, p, all);
}

} // namespace

TEST_CASE("convolutions equal the reference on every instruction set") {
    rng g(1);
    for (int trial = 0; trial < 160; ++trial) check_any(g, random_problem(g), trial % 8 == 0);
}

TEST_CASE("convolutions with groups equal the reference") {
    rng g(2);
    for (int trial = 0; trial < 120; ++trial) {
        problem p = random_problem(g);
        const index_t in = pick(g, 1, 6), out = pick(g, 1, 20);
        p.groups = pick(g, 1, 9);
        p.c = p.groups * in;
        p.out = p.groups * out;
        if (trial % 4 == 0) p.s = window::square(1, trial % 8 == 0 ? 2 : 1); // pointwise
        check_any(g, p, trial % 8 == 0);
    }
    problem resnext; // 32 groups of 4 channels
    resnext.h = 9;
    resnext.w = 10;
    resnext.c = resnext.out = 128;
    resnext.groups = 32;
    resnext.s = window::square(3, 1, 1);
    check<std::uint8_t>(g, resnext, true);
    resnext.groups = 128; // a depthwise one, the slow way
    check<std::int8_t>(g, resnext);
    resnext.out = 192; // blocks that begin within a panel, the last one near the end of the bias
    resnext.groups = 8;
    check<std::uint8_t>(g, resnext, true);
}

TEST_CASE("transposed convolutions equal the reference") {
    rng g(3);
    for (int trial = 0; trial < 160; ++trial) {
        problem p = random_problem(g);
        p.transposed = true;
        p.h = pick(g, 1, 6);
        p.w = pick(g, 1, 7);
        if (trial % 3 == 0) p.s.dilation_h = p.s.dilation_w = 1;
        if (trial % 5 == 0) p.s.kernel_w = p.s.stride_w * pick(g, 1, 2);
        p.output_pad_h = pick(g, 0, p.s.stride_h - 1);
        p.output_pad_w = pick(g, 0, p.s.stride_w - 1);
        if (trial % 4 == 0) {
            p.groups = pick(g, 2, 5);
            p.c = p.groups * pick(g, 1, 6);
            p.out = p.groups * pick(g, 1, 20);
        }
        check_any(g, p, trial % 8 == 0);
    }
}

TEST_CASE("first layers of three channels and small images of many channels equal the reference") {
    rng g(4);
    for (index_t kernel : {3, 5, 7})
        for (index_t channels : {1, 2, 3, 4, 6})
            for (index_t out : {16, 32, 64}) {
                problem p;
                p.h = pick(g, 17, 23);
                p.w = pick(g, 17, 40);
                p.c = channels;
                p.out = out;
                p.s = window::square(kernel, 2, kernel / 2);
                p.threads = 1 + out % 3;
                p.codes = channels == 3 ? fill::extreme : fill::random;
                check_any(g, p, kernel == 3);
            }
    for (index_t stride : {1, 2}) // rows of outputs that fill the tiles of such a layer, and others
        for (index_t width : {5, 15, 16, 24, 31, 32, 48})
            for (index_t out : {16, 32, 48}) {
                problem p;
                p.n = 2;
                p.h = pick(g, 3, 19);
                p.w = width;
                p.c = out == 48 || g() % 2 ? 3 : 1;
                p.out = out;
                p.s = window::square(3, stride, width % 3 == 0 ? 1 : pick(g, 0, 1));
                p.slices = width == 48 || width == 31;
                p.threads = 1 + out % 3;
                p.codes = width == 32 ? fill::extreme : fill::random;
                check_any(g, p, true);
            }
    problem units; // the last outputs are a unit of their own, in which the kernel joins the ends itself
    units.h = 3;
    units.w = 40;
    units.c = 3;
    units.out = 80;
    units.s = window::square(3, 2, 1);
    units.threads = 2;
    check_any(g, units, true);
    problem tail;
    tail.h = tail.w = 7;
    tail.c = 96;
    tail.out = 130;
    tail.s = window::square(3, 1, 1);
    for (index_t threads : {1, 2, 3, 7}) {
        tail.threads = threads;
        check<std::uint8_t>(g, tail);
        check<std::int8_t>(g, tail);
    }
}

TEST_CASE("taps in a padding of zeros, which are left out, change nothing") {
    rng g(6);
    for (int trial = 0; trial < 90; ++trial) {
        problem p = random_problem(g);
        p.zeros = true;
        p.c = 4 * pick(g, 1, 9); // taps begin at whole groups of four
        p.h = pick(g, 3, 15);
        p.w = pick(g, 3, 15);
        p.s = trial % 2 == 0 ? window::square(pick(g, 2, 7), pick(g, 1, 2), pick(g, 1, 4)) : random_window(g, 7);
        p.s.dilation_w = 1;
        check_any(g, p, trial % 8 == 0);
    }
    // Windows one tap wide over 4 channels: segments of one group, of which the rows at the top need the last ones.
    for (index_t kernel : {4, 5, 7})
        for (index_t width : {8, 15, 24})
            for (index_t out : {16, 32, 80}) {
                problem column;
                column.h = pick(g, 6, 12);
                column.w = width;
                column.c = 4;
                column.out = out;
                column.zeros = true;
                column.s.kernel_h = kernel;
                column.s.pad_top = pick(g, 1, 3);
                column.s.pad_bottom = pick(g, 0, 3);
                column.threads = 1 + out % 3;
                check_any(g, column, width == 15);
            }
    for (index_t kernel : {6, 8}) { // transposed: phases of three taps, and of one tap in four rows
        problem back;
        back.transposed = true;
        back.h = back.w = 7;
        back.c = 8;
        back.out = 48;
        back.zeros = true;
        back.s = window::square(kernel, 2, kernel == 6 ? 2 : 3);
        back.threads = 2;
        check_any(g, back, true);
        back.c = 4;
        back.w = 16;
        back.s.kernel_w = 2;
        back.s.pad_left = back.s.pad_right = 0;
        check_any(g, back, true);
    }
    // Rows of a multiple of 7 outputs are filled by tiles of their own, with padding on one side or on both.
    const struct {
        index_t width, stride, left, right;
    } lines[] = {{7, 1, 1, 1},  {13, 2, 1, 1}, {14, 1, 1, 1}, {27, 2, 1, 1}, {14, 2, 1, 1},
                 {28, 2, 1, 0}, {21, 1, 1, 1}, {42, 1, 1, 1}, {29, 1, 1, 0}, {29, 1, 0, 1},
                 {44, 1, 0, 0}, {9, 1, 0, 0},  {43, 2, 0, 0}, {42, 2, 0, 1}};
    for (const auto& l : lines)
        for (index_t out : {1, 16, 30, 40, 50, 96}) {
            problem line;
            line.n = 2;
            line.h = pick(g, 1, 15);
            line.w = l.width;
            line.c = 4 * pick(g, 1, 9);
            line.out = out;
            line.zeros = out != 40;
            line.s = window::square(3, l.stride, 1);
            line.s.pad_left = l.left;
            line.s.pad_right = l.right;
            line.s.kernel_h = pick(g, 1, 5);
            line.slices = out == 50;
            line.threads = out == 96 ? 2 : 1 + out % 3;
            line.codes = out == 96 ? fill::extreme : fill::random;
            check_any(g, line, true);
        }
    problem p; // larger than a band
    p.h = 60;
    p.w = 30;
    p.c = p.out = 128;
    p.s = window::square(3, 1, 1);
    p.zeros = true;
    check<std::uint8_t>(g, p, true);
}

TEST_CASE("several bands of rows: images larger than a band, one row larger than a band") {
    rng g(5);
    problem p;
    p.n = 2;
    p.h = 70;
    p.w = 40;
    p.c = 96;
    p.out = 5;
    p.s = window::square(3, 1, 1);
    check<std::uint8_t>(g, p);
    p.threads = 3;
    check<std::int8_t>(g, p);
    p.h = 5;
    p.w = 1500;
    check<std::uint8_t>(g, p);
    p.transposed = true;
    p.s.stride_h = p.s.stride_w = 2;
    p.c = 64;
    check<std::uint8_t>(g, p);
}

TEST_CASE("convolution over one dimension") {
    rng g(6);
    for (isa i : available_isas())
        for (int trial = 0; trial < 20; ++trial) {
            const index_t n = pick(g, 1, 4), w = pick(g, 1, 30), groups = pick(g, 1, 2), c = groups * pick(g, 1, 9),
                          out = groups * pick(g, 1, 40);
            const index_t kernel = pick(g, 1, 5), dilation = pick(g, 1, 3);
            const window s = trial % 2 ? window_1d(kernel, 1, dilation * (kernel - 1), 0, dilation) // causal
                                       : window_1d(kernel, pick(g, 1, 3), pick(g, 0, 2), pick(g, 0, 2), dilation);
            std::vector<std::uint8_t> x(static_cast<std::size_t>(n * w * c));
            std::vector<std::int8_t> weights(static_cast<std::size_t>(out * kernel * (c / groups)));
            for (auto& v : x) v = static_cast<std::uint8_t>(g());
            for (auto& v : weights) v = static_cast<std::int8_t>(g());
            const index_t ow = s.out_w(w);
            std::vector<std::int32_t> y(static_cast<std::size_t>(n * ow * out)), want = y;
            for (index_t b = 0; b < n; ++b) // sequence by sequence, from the formula
                for (index_t o = 0; o < out; ++o)
                    for (index_t ox = 0; ox < ow; ++ox)
                        for (index_t k = 0; k < kernel; ++k) {
                            const index_t ix = ox * s.stride_w - s.pad_left + k * dilation;
                            for (index_t ch = 0; ch < c / groups && ix >= 0 && ix < w; ++ch)
                                want[static_cast<std::size_t>((b * ow + ox) * out + o)] +=
                                    (x[static_cast<std::size_t>((b * w + ix) * c + o / (out / groups) * (c / groups) +
                                                                ch)] -
                                     9) *
                                    weights[static_cast<std::size_t>((o * kernel + k) * (c / groups) + ch)];
                        }
            const auto p = pack_conv1d(weights, out, c, s, groups);
            std::vector<std::byte> memory(static_cast<std::size_t>(conv1d_workspace_size(p, n, w)));
            context ctx(i);
            ctx.workspace = memory;
            conv1d(nwc_view<const std::uint8_t>(x.data(), n, w, c), p, make_epilogue(p, stage::accumulators{9}),
                   nwc_view(y.data(), n, ow, out), ctx);
            INFO(to_string(i) << " " << n << "x" << w << "x" << c << " -> " << out << " kernel " << kernel);
            CHECK(y == want);
        }
}

namespace {
template <class F> std::string message(errc code, F&& f) {
    try {
        f();
    } catch (const error& e) {
        CHECK(e.code() == code);
        return e.what();
    }
    return "no error";
}
void check_text(const std::string& text, const char* part) {
    INFO(text);
    CHECK(text.find(part) != std::string::npos);
}
} // namespace

TEST_CASE("convolutions refuse what does not fit") {
    const std::vector<std::int8_t> w(6 * 3 * 3 * 2, 1);
    const window s = window::square(3, 1, 1);
    check_text(message(errc::invalid_argument, [&] { (void)pack_conv2d(w, 6, 4, s, 0); }), "groups is 0");
    check_text(message(errc::invalid_argument, [&] { (void)pack_conv2d(w, 6, 5, s, 2); }),
               "5 channels cannot be divided into 2 groups");
    check_text(message(errc::invalid_argument, [&] { (void)pack_conv2d(w, 5, 4, s, 2); }),
               "5 outputs cannot be divided into 2 groups");
    check_text(message(errc::shape_mismatch, [&] { (void)pack_conv2d(w, 6, 4, s, 1); }), "weights");
    check_text(message(errc::invalid_argument, [&] { (void)pack_conv1d(w, 6, 2, s); }), "window_1d");
    const auto p = pack_conv2d(w, 6, 4, s, 2);
    std::vector<std::uint8_t> x(5 * 5 * 4);
    std::vector<std::int32_t> y(6 * 11 * 11);
    std::vector<std::byte> memory(static_cast<std::size_t>(conv2d_workspace_size(p, 1, 5, 5)));
    const auto ep = make_epilogue(p, stage::accumulators{});
    const nhwc_view<const std::uint8_t> in(x.data(), 1, 5, 5, 4);
    const nhwc_view<std::int32_t> out(y.data(), 1, 5, 5, 6);
    check_text(message(errc::invalid_argument, [&] { conv2d(in, p, ep, out); }), "conv2d_workspace_size");
    check_text(message(errc::invalid_argument,
                       [&] { conv2d(in, p, ep, out, context(std::span(memory).first(memory.size() - 1))); }),
               "workspace");
    check_text(
        message(errc::invalid_argument, [&] { conv2d(nhwc_view<const std::int8_t>(nullptr, 1, 5, 5, 4), p, ep, out); }),
        "s8_input");
    check_text(message(errc::invalid_argument, [&] { conv1d(in, p, ep, out); }), "pack_conv1d");

    transposed_window t{window::square(3, 2, 1), 1, 1};
    check_text(message(errc::invalid_argument,
                       [&] {
                           (void)pack_conv2d_transposed(w, 6, 2, {s, 1, 0});
                       }),
               "output_pad_h is 1");
    check_text(message(errc::invalid_argument,
                       [&] {
                           (void)pack_conv2d_transposed(w, 6, 2, {s, 0, -1});
                       }),
               "output_pad_w is -1");
    const auto q = pack_conv2d_transposed(w, 6, 4, t, 2);
    const auto eq = make_epilogue(q, stage::accumulators{});
    check_text(message(errc::shape_mismatch,
                       [&] { conv2d_transposed(in, q, eq, nhwc_view<std::int32_t>(y.data(), 1, 11, 10, 6)); }),
               "height of y is 11, expected 10");
    check_text(message(errc::invalid_argument,
                       [&] { conv2d_transposed(in, q, eq, nhwc_view<std::int32_t>(y.data(), 1, 10, 10, 6)); }),
               "conv2d_transposed_workspace_size");
    CHECK_THROWS_AS(conv2d_transposed_workspace_size(q, 1, index_t{1} << 50, 5), error);
    CHECK_THROWS_AS(conv2d_transposed_workspace_size(q, 1, -1, 5), error);
    const index_t huge = index_t{1} << 62;
    t.geometry.stride_h = t.geometry.stride_w = 4;
    for (index_t in_rows : {huge, -huge, index_t{0}}) CHECK((t.out_h(in_rows) == 0 && t.out_w(in_rows) == 0));
    t.geometry.pad_top = huge;
    t.output_pad_w = huge;
    CHECK((t.out_h(5) == 0 && t.out_w(5) == 0));
    CHECK(pack_conv2d_transposed({}, 0, index_t{1} << 40, {}, index_t{1} << 40).n == 0);
    conv2d(nhwc_view<const std::uint8_t>(nullptr, 0, 5, 5, 4), p, ep,
           nhwc_view<std::int32_t>(nullptr, 0, 5, 5, 6)); // nothing to do
}
