// SPDX-License-Identifier: Apache-2.0
//
// The products on AMX tiles, around what is particular to them: every K up to three steps, rows that do not fill
// tiles, copies of rows, functors, and that no state of the tiles is left behind. With NOTCH_AMX_EMULATED the tiles
// are plain C++ (kernels/arch/amx.hpp), which ends the program at the first illegal use.
#include "../catch.hpp"

#include <cstdint>
#include <cstdio>
#include <random>
#include <span>
#include <stdexcept>
#include <thread>
#include <type_traits>
#include <vector>

#include <notch/kernels/conv.hpp>
#include <notch/kernels/conv_transposed.hpp>
#include <notch/kernels/gemm.hpp>
#include <notch/ref/conv.hpp>
#include <notch/ref/gemm.hpp>

#include "../guard_page.hpp"
#include "team.hpp"

using namespace notch;

namespace {

#if defined(NOTCH_AMX_EMULATED) && NOTCH_X86_KERNELS
long products() { return arch::amx::emulated().products; }
long loads_of_shapes() { return arch::amx::emulated().loads_of_shapes; }
bool tiles_in_use() { return arch::amx::emulated().configured; }
constexpr bool counted = true;
#elif NOTCH_X86_KERNELS
long products() { return 0; }
long loads_of_shapes() { return 0; }
bool tiles_in_use() { // XINUSE, bits TILECFG and TILEDATA
    std::uint32_t low = 0, high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(1));
    return (low >> 17 & 3) != 0;
}
constexpr bool counted = false;
#else
long products() { return 0; }
long loads_of_shapes() { return 0; }
bool tiles_in_use() { return false; }
constexpr bool counted = false;
#endif

bool missing() { return !is_available(isa::amx); }

template <class T> T code(std::mt19937& g, bool extreme) {
    if (!extreme) return static_cast<T>(g());
    return g() % 2 ? std::numeric_limits<T>::max() : std::numeric_limits<T>::min();
}

template <class X, class... Stages> auto epilogue_for(const auto& w, const Stages&... stages) {
    if constexpr (std::is_signed_v<X>)
        return make_epilogue(w, stage::s8_input{}, stages...);
    else
        return make_epilogue(w, stages...);
}

/// Accumulators and codes of x (M x K) times w (N x K) with zero points of the weights, if any.
template <class X>
void check(std::mt19937& g, index_t m, index_t n, index_t k, bool extreme, bool zero_points, index_t threads = 1) {
    const index_t lda = k + static_cast<index_t>(g() % 3), ldc = n + static_cast<index_t>(g() % 3);
    const guarded<X> x((m - 1) * lda + k, g() % 2 ? guard::after : guard::before);
    for (X& v : x) v = code<X>(g, extreme);
    std::vector<std::int8_t> w(static_cast<std::size_t>(n * k));
    for (auto& v : w) v = code<std::int8_t>(g, extreme);
    std::vector<std::int32_t> bias(static_cast<std::size_t>(n)), zeros(zero_points ? bias.size() : 0);
    for (auto& v : bias) v = static_cast<std::int32_t>(g() % 2001) - 1000;
    for (auto& v : zeros) v = static_cast<std::int32_t>(g() % 256) - 128;
    const std::int32_t zero_point = static_cast<std::int32_t>(g() % 256) - (std::is_signed_v<X> ? 128 : 0);
    const auto p = pack(matrix_view<const std::int8_t>(w.data(), n, k), zeros);
    const matrix_view<const X> xv(x.data(), m, k, lda);
    std::vector<std::int32_t> want(static_cast<std::size_t>(m * n));
    ref::gemm<X, std::int8_t>(xv, zero_point, {w.data(), n, k}, bias, {want.data(), m, n}, zeros);
    const thread_team team{threads};
    const context ctx(isa::amx, team);
    INFO(m << "x" << n << "x" << k << (std::is_signed_v<X> ? " s8" : " u8") << (zero_points ? " zero points" : ""));

    const auto compare = [&](const auto& ep, const auto& expected) {
        using T = std::remove_cvref_t<decltype(expected(0))>;
        const guarded<T> y((m - 1) * ldc + n);
        for (T& v : y) v = T{77};
        const long before = products(), loads = loads_of_shapes();
        gemm(xv, p, ep, matrix_view<T>(y.data(), m, n, ldc), ctx);
        if (counted && threads == 1) {
            const bool tiles = m >= 16 && (k + 3) / 4 >= 8;
            REQUIRE((products() > before) == tiles);
            REQUIRE(loads_of_shapes() - loads == (tiles ? 1 : 0)); // the shapes are set once a call
        }
        REQUIRE_FALSE(tiles_in_use());
        index_t wrong = 0;
        for (index_t r = 0; r < m; ++r)
            for (index_t c = 0; c < ldc && r * ldc + c < static_cast<index_t>(y.size()); ++c)
                wrong += y[static_cast<std::size_t>(r * ldc + c)] !=
                         (c < n ? expected(want[static_cast<std::size_t>(r * n + c)]) : T{77});
        REQUIRE(wrong == 0);
    };
    compare(epilogue_for<X>(p, stage::bias{bias}, stage::accumulators{zero_point}), [](std::int32_t a) { return a; });
    const std::vector<float> scale{0.5f};
    const quant_params xp{0.25f, zero_point}, yp{0.125f * static_cast<float>(64 * k), 100};
    compare(epilogue_for<X>(p, stage::bias{bias}, stage::requantize{xp, scale, yp}), [&](std::int32_t a) {
        return static_cast<std::uint8_t>(requantize_float(a, 0.125f / yp.scale, yp.zero_point, {0, 255}));
    });
}

struct shape {
    index_t h, w, c, out, kernel, stride, pad, groups = 1, dilation = 1;
};

/// One convolution, or a transposed one, against ref/; true if it ran on tiles.
template <class X> bool check_conv(std::mt19937& g, const shape& s, index_t threads = 1) {
    window win = window::square(s.kernel, s.stride, s.pad);
    win.dilation_h = win.dilation_w = s.dilation;
    const index_t out_h = win.out_h(s.h), out_w = win.out_w(s.w), channels = s.c / s.groups;
    const guarded<X> x(2 * s.h * s.w * s.c);
    for (X& v : x) v = code<X>(g, g() % 2);
    std::vector<std::int8_t> w(static_cast<std::size_t>(s.out * s.kernel * s.kernel * channels));
    for (auto& v : w) v = code<std::int8_t>(g, false);
    const std::vector<std::int32_t> bias(static_cast<std::size_t>(s.out), 12345);
    // Often the code that a padding of zeros stands for.
    const std::int32_t zero_point = (g() % 2 ? 0 : 125) - (std::is_signed_v<X> ? 128 : 0);
    const nhwc_view<const X> xv(x.data(), 2, s.h, s.w, s.c);
    std::vector<std::int32_t> want(static_cast<std::size_t>(2 * out_h * out_w * s.out));
    ref::conv2d<X>(xv, zero_point, w, win, bias, {want.data(), 2, out_h, out_w, s.out}, s.groups);
    const auto p = pack_conv2d(w, s.out, s.c, win, s.groups);
    const thread_team team{threads};
    context ctx(isa::amx, team);
    const guarded<std::byte> memory(conv2d_workspace_size(p, 2, s.h, s.w, ctx));
    ctx.workspace = {memory.data(), memory.size()};
    INFO(s.h << "x" << s.w << "x" << s.c << " -> " << s.out << " kernel " << s.kernel << " stride " << s.stride
             << " pad " << s.pad << " groups " << s.groups << " dilation " << s.dilation);
    const long before = products();
    const guarded<std::int32_t> acc(want.size());
    conv2d(xv, p, epilogue_for<X>(p, stage::bias{bias}, stage::accumulators{zero_point}),
           nhwc_view<std::int32_t>(acc.data(), 2, out_h, out_w, s.out), ctx);
    REQUIRE_FALSE(tiles_in_use());
    const bool tiles = products() > before;
    index_t wrong = 0;
    for (std::size_t i = 0; i < want.size(); ++i) wrong += acc[i] != want[i];
    REQUIRE(wrong == 0);
    const std::vector<float> scale{0.5f};
    const quant_params xp{0.25f, zero_point}, yp{8.0f * static_cast<float>(s.kernel * s.kernel * channels), 100};
    const guarded<std::uint8_t> y(want.size());
    conv2d(xv, p, epilogue_for<X>(p, stage::bias{bias}, stage::requantize{xp, scale, yp}),
           nhwc_view<std::uint8_t>(y.data(), 2, out_h, out_w, s.out), ctx);
    for (std::size_t i = 0; i < want.size(); ++i)
        wrong += y[i] != requantize_float(want[i], 0.125f / yp.scale, yp.zero_point, {0, 255});
    REQUIRE(wrong == 0);
    return tiles;
}

} // namespace

TEST_CASE("amx is available, or the tests say that they miss it") {
    if (missing())
        std::fputs("note: not run here: amx\n", stderr);
    else if (counted)
        std::fputs("note: amx ran emulated, not on the instructions of the CPU\n", stderr);
    CHECK(std::string(to_string(isa::amx)) == "amx");
    if (!missing()) CHECK(is_available(isa::avx512vnni));
}

TEST_CASE("amx: every K, rows and columns that do not fill tiles") {
    if (missing()) return;
    std::mt19937 g(1);
    const index_t rows[] = {15, 16, 17, 31, 32, 33, 47, 48, 50, 65},
                  columns[] = {1, 15, 16, 17, 31, 32, 33, 48, 65, 100};
    for (index_t k = 1; k <= 196; ++k) {
        check<std::uint8_t>(g, rows[g() % 10], columns[g() % 10], k, k % 2 == 0, k % 3 == 0);
        check<std::int8_t>(g, rows[g() % 10], columns[g() % 10], k, k % 2 == 0, k % 3 == 0);
    }
    for (index_t k : {255, 256, 257, 1000, 1023, 2305})
        for (index_t m : {16, 40, 65}) {
            check<std::uint8_t>(g, m, 35, k, true, false);
            check<std::int8_t>(g, m, 35, k, false, true);
        }
}

TEST_CASE("amx: several blocks of rows, several threads, the longest K") {
    if (missing()) return;
    std::mt19937 g(2);
    for (index_t m : {511, 512, 513, 1029}) {
        check<std::uint8_t>(g, m, 20, 64, false, m == 513);
        check<std::int8_t>(g, m, 33, 67, false, m == 513);
    }
    check<std::uint8_t>(g, 70, 17, 8200, true, true); // blocks of 32 rows
    for (index_t threads : {2, 3, 7}) {
        check<std::uint8_t>(g, 133, 37, 100, false, true, threads);
        check<std::int8_t>(g, 10, 200, 100, false, false, threads);
    }
    constexpr index_t k = 2147483647 / (255 * 128), m = 19;
    const std::vector<std::int8_t> x(static_cast<std::size_t>(m * k), -128), w(static_cast<std::size_t>(k), -128);
    const auto p = pack({w.data(), 1, k});
    const auto ep = make_epilogue(p, stage::s8_input{}, stage::accumulators{-1});
    std::vector<std::int32_t> y(m);
    gemm(matrix_view<const std::int8_t>(x.data(), m, k), p, ep, matrix_view<std::int32_t>(y.data(), m, 1),
         context(isa::amx));
    for (std::int32_t v : y) CHECK(v == 127 * 128 * k);
}

TEST_CASE("amx: a functor may use the tiles itself") {
    if (missing()) return;
    std::mt19937 g(3);
    const index_t m = 300, n = 70, k = 130;
    std::vector<std::uint8_t> x(static_cast<std::size_t>(m * k));
    std::vector<std::int8_t> w(static_cast<std::size_t>(n * k));
    for (auto& v : x) v = code<std::uint8_t>(g, false);
    for (auto& v : w) v = code<std::int8_t>(g, false);
    const auto p = pack({w.data(), n, k});
    const auto plain = make_epilogue(p, stage::accumulators{7});
    const matrix_view<const std::uint8_t> xv(x.data(), m, k);
    const context ctx(isa::amx);
    std::vector<std::int32_t> want(static_cast<std::size_t>(m * n)), y(want.size()), inner(want.size()),
        seen(want.size());
    gemm(xv, p, plain, matrix_view<std::int32_t>(want.data(), m, n), ctx);
    const auto functor = [&](const tile<std::int32_t>& t) {
        REQUIRE_FALSE(tiles_in_use());
        gemm(xv, p, plain, matrix_view<std::int32_t>(inner.data(), m, n), ctx);
        for (index_t r = 0; r < t.rows; ++r)
            for (index_t c = 0; c < t.cols; ++c) {
                ++seen[static_cast<std::size_t>((t.row + r) * n + t.col + c)];
                t(r, c) += 1;
            }
    };
    const auto ep = make_epilogue(p, stage::accumulators{7}, stage::on_tile{functor});
    gemm(xv, p, ep, matrix_view<std::int32_t>(y.data(), m, n), ctx);
    index_t wrong = 0;
    for (std::size_t i = 0; i < want.size(); ++i) wrong += seen[i] != 1 || y[i] != want[i] + 1 || inner[i] != want[i];
    CHECK(wrong == 0);
    CHECK_FALSE(tiles_in_use());
}

TEST_CASE("amx: convolutions in place, from copies and with joined ends") {
    if (missing()) return;
    std::mt19937 g(4);
    const shape on_tiles[] = {
        {9, 34, 16, 20, 3, 1, 0},        // image rows of two whole tiles, in place
        {9, 32, 16, 20, 3, 1, 1},        // the same from a padded band
        {9, 28, 16, 33, 3, 1, 1},        // a tile that begins before the one before ends
        {7, 7, 32, 40, 3, 1, 1},         // tiles over several image rows
        {14, 14, 12, 17, 3, 2, 1},       // and a stride
        {10, 40, 64, 16, 1, 2, 0},       // one tap, a stride
        {12, 20, 65, 16, 1, 1, 0},       // a matrix with an end of K
        {12, 24, 21, 16, 3, 1, 0},       // segments that end between quads
        {9, 30, 3, 35, 7, 2, 3},         // joined ends
        {9, 20, 32, 32, 3, 1, 1, 2},     // groups
        {12, 24, 36, 16, 3, 1, 2, 1, 2}, // dilation
        {5, 9, 512, 16, 3, 1, 1},        // a long K: few rows of copies
    };
    for (const shape& s : on_tiles) {
        CHECK((check_conv<std::uint8_t>(g, s) || !counted));
        check_conv<std::int8_t>(g, s);
        check_conv<std::uint8_t>(g, s, 3);
    }
    const shape not_on_tiles[] = {
        {3, 3, 16, 16, 3, 1, 0}, // one pixel
        {9, 30, 1, 16, 3, 1, 1}, // K of 9
        {4, 7, 900, 3, 3, 1, 1}, // rows so long that the copies of sixteen have no room
    };
    for (const shape& s : not_on_tiles) CHECK_FALSE(check_conv<std::uint8_t>(g, s));
    for (int trial = 0; trial < 60; ++trial) {
        const index_t kernel = 1 + static_cast<index_t>(g() % 4), groups = 1 + static_cast<index_t>(g() % 2);
        const shape s{kernel + static_cast<index_t>(g() % 12),
                      kernel + static_cast<index_t>(g() % 40),
                      groups * static_cast<index_t>(1 + g() % 40),
                      groups * static_cast<index_t>(1 + g() % 40),
                      kernel,
                      1 + static_cast<index_t>(g() % 2),
                      static_cast<index_t>(g() % 2) * (kernel / 2),
                      groups};
        if (trial % 2)
            check_conv<std::int8_t>(g, s);
        else
            check_conv<std::uint8_t>(g, s);
    }
}

TEST_CASE("amx: transposed convolutions give what the scalar kernels give") {
    if (missing()) return;
    std::mt19937 g(5);
    for (index_t channels : {16, 21, 32}) {
        const index_t h = 9, width = 20, out = 19;
        const transposed_window win{window::square(3, 2, 1)};
        std::vector<std::uint8_t> x(static_cast<std::size_t>(h * width * channels));
        std::vector<std::int8_t> w(static_cast<std::size_t>(out * 9 * channels));
        for (auto& v : x) v = code<std::uint8_t>(g, false);
        for (auto& v : w) v = code<std::int8_t>(g, false);
        const auto p = pack_conv2d_transposed(w, out, channels, win);
        const auto ep = make_epilogue(p, stage::accumulators{9});
        const index_t out_h = win.out_h(h), out_w = win.out_w(width);
        std::vector<std::int32_t> y[2];
        const long before = products();
        for (int i = 0; i < 2; ++i) {
            y[i].resize(static_cast<std::size_t>(out_h * out_w * out));
            context ctx(i ? isa::amx : isa::scalar);
            std::vector<std::byte> memory(
                static_cast<std::size_t>(conv2d_transposed_workspace_size(p, 1, h, width, ctx)));
            ctx.workspace = memory;
            conv2d_transposed(nhwc_view<const std::uint8_t>(x.data(), 1, h, width, channels), p, ep,
                              nhwc_view<std::int32_t>(y[i].data(), 1, out_h, out_w, out), ctx);
        }
        CHECK(y[0] == y[1]);
        CHECK((products() > before || !counted));
        CHECK_FALSE(tiles_in_use());
    }
}
