// SPDX-License-Identifier: Apache-2.0
//
// Dense storage of codes of 1 to 8 bits against a stream of single bits.
#include "../catch.hpp"

#include <cstdint>
#include <vector>

#include <notch/scheme/minifloat.hpp>
#include <notch/scheme/nf4.hpp>
#include <notch/scheme/packed_codes.hpp>
#include <notch/scheme/packed_int4.hpp>
#include <notch/scheme/packed_lowbit.hpp>

using namespace notch;
using bytes = std::vector<std::uint8_t>;

static_assert(packed_size<fp6_e3m2>(4) == 3 && packed_size<fp6_e3m2>(5) == 4 && packed_size<fp6_e3m2>(0) == 0);
static_assert(packed_size<affine<1>>(9) == 2 && packed_size<symmetric<3>>(8) == 3 && packed_size<affine<8>>(7) == 7);

namespace {

/// Every code of the format, in every place of a byte, for counts that end anywhere.
template <class Format> void check_packing(int lo, int hi) {
    using code = typename Format::code_type;
    index_t wrong = 0;
    for (std::size_t n = 0; n < 70; ++n)
        for (int first = 0; first <= hi - lo; first += n == 69 ? 1 : 37) {
            std::vector<code> codes(n), back(n, static_cast<code>(lo));
            for (std::size_t i = 0; i < n; ++i)
                codes[i] = static_cast<code>(lo + (first + static_cast<int>(i * 5)) % (hi - lo + 1));
            const auto size = static_cast<std::size_t>(packed_size<Format>(static_cast<index_t>(n)));
            wrong += size != (n * Format::bits + 7) / 8;
            bytes packed(size, 0xff), want(size, 0);
            for (std::size_t i = 0; i < n; ++i)
                for (std::size_t b = 0; b < Format::bits; ++b) {
                    const std::size_t k = i * Format::bits + b;
                    if ((static_cast<unsigned>(codes[i]) >> b & 1u) != 0)
                        want[k / 8] = static_cast<std::uint8_t>(want[k / 8] | 1u << k % 8);
                }
            pack_codes<Format>(codes, packed);
            wrong += packed != want;
            unpack_codes<Format>(packed, back);
            wrong += back != codes;
        }
    INFO(Format::bits << " bits from " << lo);
    CHECK(wrong == 0);
}

template <int Bits> void check_integers() {
    check_packing<affine<Bits>>(0, (1 << Bits) - 1);
    check_packing<affine_signed<Bits>>(-(1 << (Bits - 1)), (1 << (Bits - 1)) - 1);
    if constexpr (Bits > 1) check_packing<symmetric<Bits>>(1 - (1 << (Bits - 1)), (1 << (Bits - 1)) - 1);
}

} // namespace

TEST_CASE("integers of 1 to 8 bits, signed and unsigned, and short floats round-trip as a stream of bits") {
    check_integers<1>();
    check_integers<2>();
    check_integers<3>();
    check_integers<4>();
    check_integers<5>();
    check_integers<6>();
    check_integers<7>();
    check_integers<8>();
    check_packing<fp4_e2m1>(0, 15);
    check_packing<nf4>(0, 15);
    check_packing<fp6_e2m3>(0, 63);
    check_packing<fp8_e5m2>(0, 255);
}

TEST_CASE("the stream is the layout of the older packings") {
    const std::vector<std::int8_t> four{-8, 7, 1, -1, 3}, two{-2, 1, 0, -1, 1}, one{1, -1, -1, 1, 1, 1, -1, 1, 1};
    bytes a(3), b(3);
    pack_int4(four, a);
    pack_codes<affine_signed<4>>(four, b);
    CHECK(a == b);
    CHECK(a == bytes{0x78, 0xf1, 0x03});
    bytes c(2), d(2);
    pack_int2(two, c);
    pack_codes<symmetric_full<2>>(two, d);
    CHECK(c == d);
    // Binary codes: 1 means +1, in words of which the first byte is the lowest.
    std::vector<std::uint32_t> words(1);
    std::vector<std::uint8_t> bits(one.size());
    for (std::size_t i = 0; i < one.size(); ++i) bits[i] = one[i] > 0;
    pack_binary_codes(one, words);
    pack_codes<affine<1>>(bits, c);
    CHECK(words[0] == (c[0] | static_cast<unsigned>(c[1]) << 8));
}

TEST_CASE("packing refuses codes outside the format and wrong sizes, and then writes nothing") {
    bytes out(1, 0x55);
    const auto refused = [&](auto format, auto codes, const char* text) {
        CHECK_THROWS_WITH(pack_codes<decltype(format)>(codes, out), contains_text(text));
        CHECK(out == bytes{0x55});
    };
    using s8 = std::vector<std::int8_t>;
    refused(symmetric<4>{}, s8{0, -8}, "pack_codes: code -8 is not in -7..7");
    refused(affine_signed<1>{}, s8{1}, "code 1 is not in -1..0");
    refused(affine<3>{}, bytes{7, 8}, "code 8 is not in 0..7");
    refused(fp6_e3m2{}, bytes{64}, "code 64 is not in 0..63");
    refused(affine<4>{}, bytes{1, 2, 3}, "size of out is 1, expected 2");
    bytes codes(3);
    CHECK_THROWS_WITH(unpack_codes<affine<4>>(out, codes),
                      contains_text("unpack_codes: size of packed is 1, expected 2"));
}
