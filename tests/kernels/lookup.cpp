// SPDX-License-Identifier: Apache-2.0
//
// Lookup tables: the functions against long double, the tables against the nearest code, the kernels of
// every instruction set against ref.
#include "../catch.hpp"

#include <cfloat>
#include <cmath>
#include <limits>

#include <notch/kernels/lookup.hpp>

#include "../guard_page.hpp"
#include "team.hpp"

using namespace notch;

namespace {

using real = long double;
struct named {
    const char* name;
    double (*f)(double);
    real (*exact)(real);
    int bits; ///< the relative error is below 2^-bits
};
real phi(real x) { return std::erfc(-x * 0.70710678118654752440084436210485L) / 2; }
const named all_functions[] = {
    {"exp", [](double x) { return functions::exp(x); }, [](real x) { return std::exp(x); }, 48},
    {"expm1", [](double x) { return functions::expm1(x); }, [](real x) { return std::expm1(x); }, 48},
    {"sigmoid", [](double x) { return functions::sigmoid(x); }, [](real x) { return 1 / (1 + std::exp(-x)); }, 48},
    {"tanh", [](double x) { return functions::tanh(x); }, [](real x) { return std::tanh(x); }, 48},
    {"erfc", [](double x) { return functions::erfc(x); }, [](real x) { return std::erfc(x); }, 43},
    {"gelu", [](double x) { return functions::gelu(x); }, [](real x) { return x * phi(x); }, 41},
    {"gelu_tanh", [](double x) { return functions::gelu_tanh(x); },
     [](real x) { return x / (1 + std::exp(-2 * 0.79788456080286535587989211986876L * x * (1 + 0.044715L * x * x))); },
     41},
    {"silu", [](double x) { return functions::silu(x); }, [](real x) { return x / (1 + std::exp(-x)); }, 48},
    {"swish", [](double x) { return functions::swish(x); }, [](real x) { return x / (1 + std::exp(-x)); }, 48},
    {"mish", [](double x) { return functions::mish(x); },
     [](real x) {
         const real e = std::exp(x);
         return x * (e * (e + 2)) / (e * (e + 2) + 2);
     },
     48},
    {"relu", [](double x) { return functions::relu(x); }, [](real x) { return std::fmax(x, 0.0L); }, 52},
    {"relu6", [](double x) { return functions::relu6(x); }, [](real x) { return std::fmin(std::fmax(x, 0.0L), 6.0L); },
     52},
    {"hard_sigmoid", [](double x) { return functions::hard_sigmoid(x); },
     [](real x) { return std::fmin(std::fmax(x + 3, 0.0L), 6.0L) / 6; }, 40},
    {"hard_swish", [](double x) { return functions::hard_swish(x); },
     [](real x) { return x * std::fmin(std::fmax(x + 3, 0.0L), 6.0L) / 6; }, 40},
    {"leaky_relu", [](double x) { return functions::leaky_relu{0.2}(x); },
     [](real x) { return x < 0 ? static_cast<real>(0.2) * x : x; }, 52},
    {"elu", [](double x) { return functions::elu{1.5}(x); }, [](real x) { return x < 0 ? 1.5L * std::expm1(x) : x; },
     48},
};

/// y[i] = table[x[i]] on every instruction set, sizes around whole vectors, against guard pages.
template <class X, class Y> void check_kernels() {
    std::mt19937 g(1);
    lookup_table<X, Y> t;
    for (auto& b : t.bytes) b = static_cast<std::uint8_t>(g());
    std::vector<std::size_t> sizes{300, 511, 512, 513, 1000, 16383, 16385, 70001};
    for (std::size_t n = 0; n <= 200; ++n) sizes.push_back(n);
    for (std::size_t n : sizes) {
        const auto x = random_codes<X>(g, n);
        std::vector<Y> want(n);
        ref::lookup(x, t, want);
        for (isa i : available_isas())
            for (index_t threads : {1, 2, 3, 7}) {
                if (threads > 1 && n < 16000) continue;
                const thread_team team{threads};
                const context ctx(i, team);
                for (bool at_front : {false, true}) {
                    const guarded<X> from(x, at_front ? guard::before : guard::after);
                    guarded<Y> to(n, at_front ? guard::before : guard::after);
                    lookup(std::span<const X>(from.data(), n), t, std::span<Y>(to.data(), n), ctx);
                    INFO(to_string(i) << " n " << n << " threads " << threads);
                    CHECK(std::vector<Y>(to.begin(), to.end()) == want);
                }
                if constexpr (std::is_same_v<X, Y>) { // in place
                    guarded<X> both(x);
                    lookup(std::span<const X>(both.data(), n), t, std::span<Y>(both.data(), n), ctx);
                    CHECK(std::vector<Y>(both.begin(), both.end()) == want);
                }
            }
    }
}

} // namespace

TEST_CASE("activation functions in double are as accurate as they say") {
    if (LDBL_MANT_DIG < 64) return; // nothing better to compare with
    for (const named& f : all_functions) {
        INFO(f.name);
        real worst = 0;
        double at = 0;
        const auto check = [&](double x) {
            const real want = f.exact(x), got = f.f(x);
            if (std::fabs(want) < 0x1p-200L || !std::isfinite(want) || std::fabs(want) > DBL_MAX) return;
            const real error = std::fabs((got - want) / want);
            if (!(error <= worst)) worst = error, at = x;
        };
        for (int k = -6000; k <= 6000; ++k) check(k * 0.0037); // to +-22
        for (int k = -300; k <= 300; ++k) check(k * 0.5);
        for (int e = -60; e <= 9; ++e)
            for (double s : {-1.0, 1.0, -1.37, 1.37}) check(s * std::ldexp(1.0, e));
        INFO("error 2^" << std::log2(static_cast<double>(worst)) << " at " << at);
        CHECK(worst <= std::ldexp(1.0L, -f.bits));
    }
}

TEST_CASE("activation functions at infinities and far out") {
    const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
    for (double big : {1e4, 1e100, inf}) {
        CHECK(functions::exp(big) == inf);
        CHECK(functions::exp(-big) == 0.0);
        CHECK(functions::sigmoid(big) == 1.0);
        CHECK(functions::sigmoid(-big) == 0.0);
        CHECK(functions::tanh(big) == 1.0);
        CHECK(functions::tanh(-big) == -1.0);
        CHECK(functions::erfc(big) == 0.0);
        CHECK(functions::erfc(-big) == 2.0);
        for (auto* f :
             {functions::gelu, functions::gelu_tanh, functions::silu, functions::mish, functions::hard_swish}) {
            CHECK(f(big) == big);
            CHECK(f(-big) == 0.0);
        }
        CHECK(functions::elu{}(-big) == -1.0);
    }
    for (const named& f : all_functions)
        if (std::string(f.name) != "relu6") CHECK((f.f(nan) != f.f(nan) || f.f(nan) == 0.0));
}

TEST_CASE("every entry of a lookup table is the nearest code") {
    for (const named& f : all_functions)
        for (float sx : {0.003f, 0.05f, 0.11f, 1.0f})
            for (float sy : {1.0f / 256, 0.0117f, 0.5f})
                for (int zx : {0, 77, 255}) {
                    const quant_params x{sx, zx}, y{sy, zx - 128};
                    const auto t = make_lookup<std::uint8_t, std::int8_t>(f.f, x, y);
                    for (int c = 0; c < 256; ++c) {
                        const real value =
                            f.exact(static_cast<real>(c - zx) * static_cast<real>(sx)) / static_cast<real>(sy) +
                            y.zero_point;
                        const real inside = std::fmin(std::fmax(value, -128.0L), 127.0L);
                        const real error = std::fabs(inside - t(static_cast<std::uint8_t>(c)));
                        if (!(error <= 0.5L + 0x1p-30L)) {
                            INFO(f.name << " code " << c << " scale " << sx << " " << sy << " zero point " << zx);
                            CHECK(error <= 0.5L + 0x1p-30L);
                        }
                    }
                }
}

TEST_CASE("lookup tables are the same on every machine") {
    std::uint64_t digest = 14695981039346656037u;
    for (const named& f : all_functions)
        for (int k = 0; k < 200; ++k) {
            const quant_params x{0.0007f * static_cast<float>(1 + k), k % 256},
                y{0.00031f * static_cast<float>(1 + k % 37), k % 100};
            const auto t = make_lookup<std::uint8_t, std::uint8_t>(f.f, x, y);
            for (std::uint8_t b : t.bytes) digest = (digest ^ b) * 1099511628211u;
        }
    CHECK(digest == 6269216752907294647u);
}

TEST_CASE("lookup: NaN and infinities of the function, ranges, and values by hand") {
    const quant_params x{1.0f, 0}, y{0.5f, 10};
    const double inf = std::numeric_limits<double>::infinity();
    const auto odd = make_lookup<std::uint8_t, std::uint8_t>(
        [&](double v) {
            return v == 0 ? std::nan("") : v == 1 ? inf : v == 2 ? -inf : v == 3 ? 0.25 : v == 4 ? 0.75 : v;
        },
        x, y);
    CHECK(int{odd(0)} == 10);
    CHECK(int{odd(1)} == 255);
    CHECK(int{odd(2)} == 0);
    CHECK(int{odd(3)} == 10); // ties go to even: 0.5 -> 0
    CHECK(int{odd(4)} == 12); // 1.5 -> 2
    CHECK(int{odd(20)} == 50);
    const auto clipped = make_lookup<std::int8_t, std::int8_t>(functions::identity, {1.0f, 0}, {1.0f, 0}, {-3, 5});
    CHECK(int{clipped(-128)} == -3);
    CHECK(int{clipped(4)} == 4);
    CHECK(int{clipped(127)} == 5);
    const auto gelu = make_lookup<std::int8_t, std::int8_t>(functions::gelu, {0.1f, 0}, {0.1f, 0});
    CHECK(int{gelu(10)} == 8);   // gelu(1) = 0.841
    CHECK(int{gelu(-10)} == -2); // -0.159
}

TEST_CASE("lookup agrees with ref on every instruction set") {
    check_kernels<std::uint8_t, std::uint8_t>();
    check_kernels<std::int8_t, std::int8_t>();
    check_kernels<std::uint8_t, std::int8_t>();
    check_kernels<std::int8_t, std::uint8_t>();
#if NOTCH_X86_KERNELS
    if (!detail::cpu().avx512vbmi) std::fputs("note: not run here: lookup for AVX-512 VBMI\n", stderr);
#endif
}

TEST_CASE("lookup refuses bad arguments") {
    const quant_params good{0.1f, 0};
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const auto make = [](quant_params x, quant_params y, code_range r) {
        return error_text(errc::invalid_argument,
                          [&] { (void)make_lookup<std::uint8_t, std::int8_t>(functions::tanh, x, y, r); });
    };
    const code_range all{-128, 127};
    for (float bad : {0.0f, -1.0f, nan, std::numeric_limits<float>::infinity()}) {
        CHECK_THAT(make({bad, 0}, good, all), contains_text("x.scale"));
        CHECK_THAT(make(good, {bad, 0}, all), contains_text("y.scale"));
    }
    CHECK_THAT(make({1.0f, -1}, good, all), contains_text("x.zero_point"));
    CHECK_THAT(make(good, {1.0f, 128}, all), contains_text("y.zero_point"));
    CHECK_THAT(make(good, good, {-129, 0}), contains_text("-129..0"));
    CHECK_THAT(make(good, good, {5, 4}), contains_text("5..4"));
    const auto t = make_lookup<std::uint8_t, std::uint8_t>(functions::relu, good, good);
    std::vector<std::uint8_t> x(5), y(4);
    CHECK_THAT(error_text(errc::shape_mismatch, [&] { lookup(x, t, y); }), contains_text("size of y is 4, expected 5"));
    CHECK_THAT(
        error_text(errc::invalid_argument,
                   [&] { lookup(std::span<const std::uint8_t>(static_cast<const std::uint8_t*>(nullptr), 4), t, y); }),
        contains_text("x is null"));
}
