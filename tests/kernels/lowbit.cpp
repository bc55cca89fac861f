// SPDX-License-Identifier: Apache-2.0
//
// Products and convolutions with weights of one and two bits against ref/, bit for bit, on every
// instruction set: shapes, strides, extreme codes, bits that mean nothing, padding, threads, guard
// pages, bad input.
#include "../catch.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include <notch/kernels/lowbit_conv.hpp>
#include <notch/ref/conv.hpp>
#include <notch/ref/lowbit.hpp>

#include "../guard_page.hpp"
#include "team.hpp"

using namespace notch;

namespace {

const index_t thread_counts[] = {1, 2, 3, 7};
const index_t sizes[] = {1, 2, 7, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 100, 127, 128, 129};

/// Codes of at most this magnitude: binary (-1, 1), ternary, or -2..1; kind 1, 2, 3. Extreme: one value.
std::vector<std::int8_t> codes(std::mt19937& g, index_t n, int kind, int extreme) {
    std::vector<std::int8_t> v(static_cast<std::size_t>(n));
    for (auto& c : v) {
        if (extreme == 1)
            c = 1;
        else if (extreme == 2)
            c = static_cast<std::int8_t>(kind == 3 ? -2 : -1);
        else
            c = static_cast<std::int8_t>(kind == 1   ? (g() % 2 ? 1 : -1)
                                         : kind == 2 ? static_cast<int>(g() % 3) - 1
                                                     : static_cast<int>(g() % 4) - 2);
    }
    return v;
}
std::vector<std::int32_t> biases(std::mt19937& g, index_t n) {
    std::vector<std::int32_t> v(static_cast<std::size_t>(n));
    for (auto& x : v) x = static_cast<std::int32_t>(g() % 2001) - 1000;
    return v;
}

/// A row of k codes into words; the unused bits become garbage, which must not matter.
void put_row(std::mt19937& g, const std::int8_t* c, index_t k, bool ternary, std::uint32_t* out) {
    const index_t words = packed_bits_size(k);
    const std::span<const std::int8_t> row(c, static_cast<std::size_t>(k));
    const std::span<std::uint32_t> first(out, static_cast<std::size_t>(words));
    if (ternary)
        pack_ternary_codes(row, first, {out + words, static_cast<std::size_t>(words)});
    else
        pack_binary_codes(row, first);
    if (k % 32 != 0) out[words - 1] |= static_cast<std::uint32_t>(g()) << k % 32;
    if (ternary)
        for (index_t w = 0; w < words; ++w)
            out[words + w] |= static_cast<std::uint32_t>(g()) & ~out[w]; // negative zeros
}

template <class T> index_t differences(std::span<const T> a, const std::vector<T>& b) {
    REQUIRE(a.size() == b.size());
    index_t n = 0;
    for (std::size_t i = 0; i < b.size(); ++i) n += !(a[i] == b[i]);
    return n;
}

/// The accumulators, and what the epilogues make of them, from a function that runs the kernel.
template <class Packed, class Run>
void check_outputs(std::mt19937& g, const Packed& p, std::int32_t zero_point, const std::vector<std::int32_t>& bias,
                   const std::vector<std::int32_t>& acc, index_t n, Run run) {
    guarded<std::int32_t> s32(static_cast<index_t>(acc.size()));
    run(make_epilogue(p, stage::bias{bias}, stage::accumulators{zero_point}), s32.data());
    CHECK(differences<std::int32_t>(s32.span(), acc) == 0);
    std::vector<float> scales(static_cast<std::size_t>(n));
    for (float& s : scales) s = 1e-3f * static_cast<float>(1 + g() % 1000);
    const quant_params x{0.5f, zero_point}, y{0.3f, 100};
    guarded<std::uint8_t> u8(static_cast<index_t>(acc.size()));
    guarded<float> f32(static_cast<index_t>(acc.size()));
    std::vector<std::uint8_t> want_u8(acc.size());
    std::vector<float> want_f32(acc.size());
    for (std::size_t i = 0; i < acc.size(); ++i) {
        const double s = static_cast<double>(x.scale) * static_cast<double>(scales[i % static_cast<std::size_t>(n)]);
        want_u8[i] = static_cast<std::uint8_t>(
            requantize_float(acc[i], static_cast<float>(s / static_cast<double>(y.scale)), y.zero_point, {0, 255}));
        const float v = static_cast<float>(acc[i]) * static_cast<float>(s);
        want_f32[i] = v > 0.0f ? v : 0.0f;
    }
    run(make_epilogue(p, stage::bias{bias}, stage::requantize{x, scales, y}), u8.data());
    CHECK(differences<std::uint8_t>(u8.span(), want_u8) == 0);
    run(make_epilogue(p, stage::bias{bias}, stage::dequantize{x, scales}, stage::relu{}), f32.data());
    CHECK(differences<float>(f32.span(), want_f32) == 0);
    guarded<bfloat16> bf16(static_cast<index_t>(acc.size()));
    std::vector<bfloat16> want_bf16(acc.size());
    for (std::size_t i = 0; i < acc.size(); ++i) want_bf16[i].bits = to_bfloat16(want_f32[i]);
    run(make_epilogue(p, stage::bias{bias}, stage::dequantize_bf16{x, scales}, stage::relu{}), bf16.data());
    CHECK(differences<bfloat16>(bf16.span(), want_bf16) == 0);
}

void check_bits(std::mt19937& g, index_t m, index_t n, index_t k, bool x_ternary, bool w_ternary, int extreme, isa i,
                index_t threads) {
    const index_t words = packed_bits_size(k) * (x_ternary ? 2 : 1), ldx = words + static_cast<index_t>(g() % 3);
    INFO(to_string(i) << " " << m << "x" << n << "x" << k << " ternary " << x_ternary << w_ternary << " threads "
                      << threads);
    const auto x = codes(g, m * k, x_ternary ? 2 : 1, extreme),
               w = codes(g, n * k, w_ternary ? 2 : 1, extreme ? 3 - extreme : 0);
    const auto bias = biases(g, n);
    guarded<std::uint32_t> bits(m > 0 ? (m - 1) * ldx + words : 0);
    for (index_t r = 0; r < m; ++r) put_row(g, x.data() + r * k, k, x_ternary, bits.data() + r * ldx);
    std::vector<std::int32_t> acc(static_cast<std::size_t>(m * n));
    ref::signed_gemm({x.data(), m, k}, {w.data(), n, k}, bias, {acc.data(), m, n});
    const packed_bits p = w_ternary ? pack_ternary({w.data(), n, k}) : pack_binary({w.data(), n, k});
    const thread_team pool{threads};
    const context ctx(i, pool);
    check_outputs(g, p, 0, bias, acc, n, [&](const auto& ep, auto* y) {
        using T = std::remove_pointer_t<decltype(y)>;
        gemm_bits(matrix_view<const std::uint32_t>(bits.data(), m, words, ldx),
                  x_ternary ? bit_codes::ternary : bit_codes::binary, p, ep, matrix_view<T>(y, m, n), ctx);
    });
}

window random_window(std::mt19937& g, int trial) {
    window s;
    s.kernel_h = 1 + g() % 3;
    s.kernel_w = 1 + g() % 3;
    if (trial % 6 == 0) return s;
    s.stride_h = 1 + g() % 2;
    s.stride_w = 1 + g() % 2;
    s.dilation_h = 1 + g() % 2;
    s.dilation_w = 1 + g() % 2;
    if (trial % 4) {
        s.pad_top = g() % 3;
        s.pad_left = g() % 3;
        s.pad_bottom = g() % 3;
        s.pad_right = g() % 3;
    }
    return s;
}

} // namespace

TEST_CASE("products of bits equal the reference on every instruction set") {
    std::mt19937 g(1);
    for (int trial = 0; trial < 90; ++trial) {
        const bool w_ternary = trial % 3 > 0, x_ternary = trial % 3 == 2;
        const index_t m = g() % 14, n = sizes[g() % 17],
                      k = trial % 10 == 0 ? 1000 + static_cast<index_t>(g() % 1200) : sizes[g() % 17];
        for (isa i : available_isas())
            check_bits(g, m, n, k, x_ternary, w_ternary, trial % 8 == 7 ? 1 + static_cast<int>(g() % 2) : 0, i,
                       thread_counts[g() % 4]);
    }
    for (isa i : available_isas()) {
        check_bits(g, 2, 3, 0, false, false, 0, i, 1);
        check_bits(g, 5, 33, 8192, false, false, 1, i, 2); // all signs unequal: the largest counts
        check_bits(g, 3, 18, 2048, true, true, 2, i, 1);
        for (index_t k : {31 * 32 - 1, 31 * 32, 31 * 32 + 1, 32 * 32, 62 * 32, 62 * 32 + 5})
            check_bits(g, 5, 17, k, k % 2 == 0, true, 0, i, 1);
    }
}

TEST_CASE("counting bits without the instruction for it gives the same") {
    std::mt19937 g(2);
    // The kernels with and without vpopcntd, straight from the table.
    const index_t m = 7, n = 40, k = 3000;
    const auto x = codes(g, m * k, 2, 0), w = codes(g, n * k, 2, 0);
    const index_t words = packed_bits_size(k) * 2;
    std::vector<std::uint32_t> bits(static_cast<std::size_t>(m * words));
    for (index_t r = 0; r < m; ++r) put_row(g, x.data() + r * k, k, true, bits.data() + r * words);
    std::vector<std::int32_t> acc(static_cast<std::size_t>(m * n)), y(acc.size());
    ref::signed_gemm({x.data(), m, k}, {w.data(), n, k}, {}, {acc.data(), m, n});
    const packed_bits p = pack_ternary({w.data(), n, k});
    const auto ep = make_epilogue(p, stage::accumulators{});
    const index_t whole = 0;
    for (isa i : available_isas())
        for (bool popcnt : {false, true}) {
            if (popcnt && !detail::cpu().avx512vpopcntdq) continue;
            bits_args a = detail::make_bits_args("test", p, ep);
            a.x = bits.data();
            a.ldx = words;
            a.m = m;
            a.segment = &whole;
            a.x_ternary = true;
            a.popcnt = popcnt;
            a.c = y.data();
            a.ldc = n;
            std::fill(y.begin(), y.end(), 0);
            detail::kernels_for(detail::lowbit_tables, i).gemm_bits(a);
            INFO(to_string(i) << " popcnt " << popcnt);
            CHECK(differences<std::int32_t>(y, acc) == 0);
        }
}

TEST_CASE("products with 2-bit weights equal the reference on every instruction set") {
    std::mt19937 g(3);
    for (int trial = 0; trial < 80; ++trial) {
        const index_t m = g() % 14, n = sizes[g() % 17],
                      k = trial % 10 == 0 ? 2000 : sizes[g() % 17] - (trial % 17 == 0 ? 1 : 0);
        const index_t ldx = k + static_cast<index_t>(g() % 3);
        const int extreme = trial % 4 == 3 ? 1 + static_cast<int>(g() % 2) : 0;
        guarded<std::uint8_t> x(m > 0 ? (m - 1) * ldx + k : 0, trial % 2 ? guard::after : guard::before);
        for (auto& v : x) v = static_cast<std::uint8_t>(extreme ? 255 : g());
        const auto w = codes(g, n * k, 3, extreme);
        const auto bias = biases(g, n);
        const std::int32_t zero_point = static_cast<std::int32_t>(g() % 256);
        std::vector<std::int32_t> acc(static_cast<std::size_t>(m * n));
        ref::gemm<std::uint8_t>({x.data(), m, k, ldx}, zero_point, {w.data(), n, k}, bias, {acc.data(), m, n});
        const packed_int2 p = pack_int2_weights({w.data(), n, k});
        for (isa i : available_isas()) {
            const thread_team pool{thread_counts[g() % 4]};
            const context ctx(i, pool);
            INFO(to_string(i) << " " << m << "x" << n << "x" << k);
            check_outputs(g, p, zero_point, bias, acc, n, [&](const auto& ep, auto* y) {
                using T = std::remove_pointer_t<decltype(y)>;
                gemm_int2(matrix_view<const std::uint8_t>(x.data(), m, k, ldx), p, ep, matrix_view<T>(y, m, n), ctx);
            });
        }
    }
}

TEST_CASE("convolutions of bits equal the reference on every instruction set") {
    std::mt19937 g(4);
    for (int trial = 0; trial < 120; ++trial) {
        const window s = random_window(g, trial);
        const bool w_ternary = trial % 3 > 0, x_ternary = trial % 3 == 2;
        const index_t n = 1 + g() % 3, h = 1 + g() % 8, w = 1 + g() % 8, out = 1 + g() % 40;
        const index_t c = trial % 2 ? 32 * (1 + static_cast<index_t>(g() % 3)) : 1 + static_cast<index_t>(g() % 80);
        const index_t oh = s.out_h(h), ow = s.out_w(w), words = packed_bits_size(c) * (x_ternary ? 2 : 1);
        const index_t pixel = words + (g() % 3 ? 0 : 2), extent = (n * h * w - 1) * pixel + words;
        const auto x = codes(g, n * h * w * c, x_ternary ? 2 : 1, 0),
                   weights = codes(g, out * s.kernel_h * s.kernel_w * c, w_ternary ? 2 : 1, 0);
        const auto bias = biases(g, out);
        guarded<std::uint32_t> bits(extent);
        for (auto& v : bits) v = static_cast<std::uint32_t>(g()); // the gaps
        for (index_t i = 0; i < n * h * w; ++i) put_row(g, x.data() + i * c, c, x_ternary, bits.data() + i * pixel);
        const packed_bits p =
            w_ternary ? pack_ternary_conv2d(weights, out, c, s) : pack_binary_conv2d(weights, out, c, s);
        const bit_codes kind = x_ternary ? bit_codes::ternary : bit_codes::binary;
        for (bit_padding padding : {bit_padding::zero, bit_padding::minus_one}) {
            if (x_ternary && padding == bit_padding::minus_one) continue;
            std::vector<std::int32_t> acc(static_cast<std::size_t>(n * oh * ow * out));
            ref::signed_conv2d({x.data(), n, h, w, c}, padding == bit_padding::zero ? 0 : -1, weights, s, bias,
                               {acc.data(), n, oh, ow, out});
            for (isa i : available_isas()) {
                const thread_team pool{thread_counts[g() % 4]};
                context ctx(i, pool);
                guarded<std::byte> memory(conv2d_bits_workspace_size(p, kind, n, h, w, ctx));
                ctx.workspace = memory.span();
                INFO(to_string(i) << " n" << n << " " << h << "x" << w << " c" << c << " out" << out << " kernel "
                                  << s.kernel_h << "x" << s.kernel_w << " pad " << s.pad_top << s.pad_left
                                  << s.pad_bottom << s.pad_right << " ternary " << x_ternary << w_ternary << " threads "
                                  << pool.threads);
                check_outputs(g, p, 0, bias, acc, out, [&](const auto& ep, auto* y) {
                    using T = std::remove_pointer_t<decltype(y)>;
                    conv2d_bits(
                        nhwc_view<const std::uint32_t>(bits.data(), n, h, w, words, h * w * pixel, w * pixel, pixel),
                        kind, p, ep, nhwc_view<T>(y, n, oh, ow, out), padding, ctx);
                });
            }
        }
    }
}

TEST_CASE("convolutions with 2-bit weights equal the reference on every instruction set") {
    std::mt19937 g(5);
    for (int trial = 0; trial < 80; ++trial) {
        const window s = random_window(g, trial);
        const index_t n = 1 + g() % 3, h = 1 + g() % 8, w = 1 + g() % 8, out = 1 + g() % 40, c = 1 + g() % 40;
        const index_t oh = s.out_h(h), ow = s.out_w(w), pixel = c + (g() % 3 ? 0 : 5);
        guarded<std::uint8_t> x((n * h * w - 1) * pixel + c, trial % 2 ? guard::after : guard::before);
        for (auto& v : x) v = static_cast<std::uint8_t>(g());
        const nhwc_view<const std::uint8_t> xv(x.data(), n, h, w, c, h * w * pixel, w * pixel, pixel);
        const auto weights = codes(g, out * s.kernel_h * s.kernel_w * c, 3, 0);
        const auto bias = biases(g, out);
        const std::int32_t zero_point = static_cast<std::int32_t>(g() % 256);
        std::vector<std::int32_t> acc(static_cast<std::size_t>(n * oh * ow * out));
        ref::conv2d<std::uint8_t>(xv, zero_point, weights, s, bias, {acc.data(), n, oh, ow, out});
        const packed_int2 p = pack_int2_conv2d(weights, out, c, s);
        for (isa i : available_isas()) {
            const thread_team pool{thread_counts[g() % 4]};
            context ctx(i, pool);
            guarded<std::byte> memory(conv2d_int2_workspace_size(p, n, h, w, ctx));
            ctx.workspace = memory.span();
            INFO(to_string(i) << " n" << n << " " << h << "x" << w << " c" << c << " out" << out << " threads "
                              << pool.threads);
            check_outputs(g, p, zero_point, bias, acc, out, [&](const auto& ep, auto* y) {
                using T = std::remove_pointer_t<decltype(y)>;
                conv2d_int2(xv, p, ep, nhwc_view<T>(y, n, oh, ow, out), ctx);
            });
        }
    }
}

TEST_CASE("low-bit convolutions of images that take several bands, in a workspace that does not grow with the image") {
    std::mt19937 g(35);
    const window s = window::square(3, 1, 1);
    const index_t n = 2, h = 30, w = 40, out = 1, c = 512, bits_c = 2048, words = packed_bits_size(bits_c);
    std::vector<std::uint8_t> x(static_cast<std::size_t>(n * h * w * c));
    for (auto& v : x) v = static_cast<std::uint8_t>(g());
    const nhwc_view<const std::uint8_t> xv(x.data(), n, h, w, c);
    const auto weights = codes(g, out * 9 * c, 3, 0);
    std::vector<std::int32_t> want(static_cast<std::size_t>(n * h * w * out)), bits_want(want.size());
    ref::conv2d<std::uint8_t>(xv, 7, weights, s, {}, {want.data(), n, h, w, out});
    const packed_int2 p = pack_int2_conv2d(weights, out, c, s);
    const auto ep = make_epilogue(p, stage::accumulators{7});

    const auto signs = codes(g, n * h * w * bits_c, 1, 0), sign_weights = codes(g, out * 9 * bits_c, 1, 0);
    std::vector<std::uint32_t> bits(static_cast<std::size_t>(n * h * w * words));
    for (index_t i = 0; i < n * h * w; ++i)
        put_row(g, signs.data() + i * bits_c, bits_c, false, bits.data() + i * words);
    ref::signed_conv2d({signs.data(), n, h, w, bits_c}, 0, sign_weights, s, {}, {bits_want.data(), n, h, w, out});
    const packed_bits b = pack_binary_conv2d(sign_weights, out, bits_c, s);
    const auto bits_ep = make_epilogue(b, stage::accumulators{});

    for (isa i : available_isas())
        for (index_t threads : {1, 3}) {
            const thread_team pool{threads};
            context ctx(i, pool);
            INFO(to_string(i) << " threads " << threads);
            std::vector<std::int32_t> y(want.size());
            guarded<std::byte> memory(conv2d_int2_workspace_size(p, n, h, w, ctx));
            ctx.workspace = memory.span();
            conv2d_int2(xv, p, ep, nhwc_view<std::int32_t>(y.data(), n, h, w, out), ctx);
            CHECK(y == want);
            guarded<std::byte> bits_memory(conv2d_bits_workspace_size(b, bit_codes::binary, n, h, w, ctx));
            ctx.workspace = bits_memory.span();
            conv2d_bits(nhwc_view<const std::uint32_t>(bits.data(), n, h, w, words), bit_codes::binary, b, bits_ep,
                        nhwc_view<std::int32_t>(y.data(), n, h, w, out), bit_padding::zero, ctx);
            CHECK(y == bits_want);
        }
    CHECK(conv2d_int2_workspace_size(p, 100, 1000, w) < 1000 * w * c / 4);
    CHECK(conv2d_bits_workspace_size(b, bit_codes::binary, 100, 1000, w) < 1000 * w * words);
    CHECK_THROWS_WITH(conv2d_int2_workspace_size(packed_int2{}, 1, 4, 4), contains_text("packed for a matrix"));
    CHECK_THROWS_WITH(conv2d_bits_workspace_size(packed_bits{}, bit_codes::binary, 1, 4, 4),
                      contains_text("packed for a matrix"));
}

TEST_CASE("binarize and ternarize equal the reference on every instruction set") {
    std::mt19937 g(6);
    for (int trial = 0; trial < 60; ++trial) {
        const index_t m = 1 + g() % 4, k = sizes[g() % 17], words = packed_bits_size(k),
                      ldx = k + static_cast<index_t>(g() % 3);
        const float threshold = trial % 3 == 0 ? 0.0f : 0.25f * static_cast<float>(g() % 8);
        guarded<float> x((m - 1) * ldx + k);
        for (float& v : x) {
            v = 0.25f * static_cast<float>(static_cast<int>(g() % 33) - 16); // often equal to the threshold
            if (g() % 20 == 0) v = std::numeric_limits<float>::quiet_NaN();
            if (g() % 20 == 0) v = std::numeric_limits<float>::infinity() * (g() % 2 ? 1.0f : -1.0f);
            if (g() % 20 == 0) v = -0.0f;
        }
        for (isa i : available_isas())
            for (bool ternary : {false, true}) {
                guarded<std::uint32_t> bits(m * words * (ternary ? 2 : 1));
                const matrix_view<const float> xv(x.data(), m, k, ldx);
                const matrix_view<std::uint32_t> bv(bits.data(), m, words * (ternary ? 2 : 1));
                if (ternary)
                    ternarize(xv, threshold, bv, context(i));
                else
                    binarize(xv, threshold, bv, context(i));
                index_t wrong = 0;
                for (index_t r = 0; r < m; ++r) {
                    std::vector<std::int8_t> want(static_cast<std::size_t>(k));
                    std::vector<std::uint32_t> planes(static_cast<std::size_t>(bv.cols));
                    const std::span<const float> row(x.data() + r * ldx, static_cast<std::size_t>(k));
                    const auto count = static_cast<std::size_t>(words);
                    if (ternary) {
                        ref::ternary(row, threshold, want);
                        pack_ternary_codes(want, std::span(planes).first(count), std::span(planes).last(count));
                    } else {
                        ref::binary(row, threshold, want);
                        pack_binary_codes(want, planes);
                    }
                    for (index_t w = 0; w < bv.cols; ++w) wrong += bv(r, w) != planes[static_cast<std::size_t>(w)];
                }
                INFO(to_string(i) << " k " << k << " ternary " << ternary);
                CHECK(wrong == 0);
            }
    }
}

TEST_CASE("a functor sees every finished rectangle of products with few bits once") {
    std::mt19937 g(7);
    const index_t m = 9, n = 37, k = 70;
    const auto w = codes(g, n * k, 2, 0);
    const std::vector<std::uint8_t> x(static_cast<std::size_t>(m * k), 3);
    const std::vector<std::uint32_t> bits(static_cast<std::size_t>(m * 3), 0x55u);
    for (isa i : available_isas()) {
        std::vector<int> seen(static_cast<std::size_t>(m * n));
        std::vector<std::int32_t> y(seen.size());
        const auto mark = stage::on_tile{[&](tile<std::int32_t> t) {
            CHECK(&t(0, 0) == y.data() + t.row * n + t.col);
            for (index_t r = 0; r < t.rows; ++r)
                for (index_t c = 0; c < t.cols; ++c) ++seen[static_cast<std::size_t>((t.row + r) * n + t.col + c)];
        }};
        const auto p = pack_int2_weights({w.data(), n, k});
        gemm_int2(matrix_view<const std::uint8_t>(x.data(), m, k), p, make_epilogue(p, stage::accumulators{}, mark),
                  matrix_view<std::int32_t>(y.data(), m, n), context(i));
        const auto b = pack_ternary({w.data(), n, k});
        gemm_bits(matrix_view<const std::uint32_t>(bits.data(), m, 3), bit_codes::binary, b,
                  make_epilogue(b, stage::accumulators{}, mark), matrix_view<std::int32_t>(y.data(), m, n), context(i));
        for (int count : seen) CHECK(count == 2);
    }
}

TEST_CASE("products with few bits refuse bad input") {
    const std::vector<std::int8_t> ones(4 * 40, 1), zeros(4 * 40, 0), twos(4 * 40, -2), threes(4 * 40, 2);
    REQUIRE_THROWS_WITH(pack_binary({zeros.data(), 4, 40}), contains_text("code 0 of output 0 is not -1 or 1"));
    REQUIRE_THROWS_WITH(pack_ternary({twos.data(), 4, 40}), contains_text("code -2 of output 0 is not -1, 0 or 1"));
    REQUIRE_THROWS_WITH(pack_int2_weights({threes.data(), 4, 40}), contains_text("code 2 of output 0 is not in -2..1"));
    REQUIRE_THROWS_WITH(pack_binary_conv2d(ones, 4, 40, window::square(3)),
                        contains_text("the number of weights is 160"));
    REQUIRE_THROWS_WITH(pack_binary_conv2d(ones, 4, 0, window::square(1)), contains_text("channels is 0"));
    auto p = pack_binary({ones.data(), 4, 40});
    const auto t = pack_ternary({zeros.data(), 4, 40});
    const auto c = pack_binary_conv2d(ones, 4, 40, window::square(1, 1, 1));
    const auto i2 = pack_int2_weights({twos.data(), 4, 40});
    const auto ep = make_epilogue(p, stage::accumulators{});
    const std::vector<std::uint32_t> x(16);
    std::vector<std::int32_t> y(64);
    const matrix_view<std::int32_t> yv(y.data(), 2, 4);
    const matrix_view<const std::uint32_t> x2(x.data(), 2, 2), x4(x.data(), 2, 4);
    REQUIRE_THROWS_WITH(gemm_bits(x4, bit_codes::binary, p, ep, yv),
                        contains_text("columns (words) of x is 4, expected 2"));
    REQUIRE_THROWS_WITH(gemm_bits(x2, bit_codes::ternary, p, ep, yv), contains_text("ternary activations need"));
    REQUIRE_THROWS_WITH(gemm_bits(x2, bit_codes::binary, c, ep, yv), contains_text("use conv2d_bits"));
    REQUIRE_THROWS_WITH(gemm_bits(x2, bit_codes::binary, p, make_epilogue(p, stage::accumulators{3}), yv),
                        contains_text("zero_point 3"));
    REQUIRE_THROWS_WITH(gemm_bits(x2, bit_codes::binary, p, ep, matrix_view<std::int32_t>(y.data(), 2, 5)),
                        contains_text("columns of y is 5"));
    REQUIRE_THROWS_WITH(
        gemm_bits(x2, bit_codes::binary, p, make_epilogue(p, stage::accumulators{-128}, stage::s8_input{}), yv),
        contains_text("s8_input"));
    const nhwc_view<const std::uint32_t> image(x.data(), 1, 2, 2, 2);
    const nhwc_view<std::int32_t> out(y.data(), 1, 4, 4, 4);
    REQUIRE_THROWS_WITH(conv2d_bits(image, bit_codes::binary, p, ep, out), contains_text("packed for a matrix"));
    REQUIRE_THROWS_WITH(conv2d_bits(image, bit_codes::binary, c, ep, out),
                        contains_text("ask conv2d_bits_workspace_size"));
    REQUIRE_THROWS_WITH(
        conv2d_bits(nhwc_view<const std::uint32_t>(x.data(), 1, 2, 2, 3), bit_codes::binary, c, ep, out),
        contains_text("(words) of x is 3"));
    const auto tc = pack_ternary_conv2d(zeros, 4, 40, window::square(1, 1, 1));
    REQUIRE_THROWS_WITH(conv2d_bits(nhwc_view<const std::uint32_t>(x.data(), 1, 2, 2, 4), bit_codes::ternary, tc,
                                    make_epilogue(tc, stage::accumulators{}), out, bit_padding::minus_one),
                        contains_text("padded with 0"));
    const std::vector<std::uint8_t> xu(80);
    REQUIRE_THROWS_WITH(
        gemm_int2(matrix_view<const std::uint8_t>(xu.data(), 2, 39), i2, make_epilogue(i2, stage::accumulators{}), yv),
        contains_text("columns of x is 39"));
    const std::vector<float> f(80);
    std::vector<std::uint32_t> bits(4);
    REQUIRE_THROWS_WITH(binarize({f.data(), 2, 40}, std::nanf(""), {bits.data(), 2, 2}), contains_text("threshold is"));
    REQUIRE_THROWS_WITH(ternarize({f.data(), 1, 40}, -1.0f, {bits.data(), 1, 4}),
                        contains_text("must be finite and >= 0"));
    REQUIRE_THROWS_WITH(binarize({f.data(), 2, 40}, 0.0f, {bits.data(), 2, 1}),
                        contains_text("columns of bits is 1, expected 2"));
    const auto moved = std::move(p);
    REQUIRE_THROWS_WITH(gemm_bits(x2, bit_codes::binary, p, ep, yv), contains_text("moved from"));
    CHECK(moved.n == 4);
    CHECK(t.sums.positive[0] == 0);
}
