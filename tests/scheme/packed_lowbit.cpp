// SPDX-License-Identifier: Apache-2.0
//
// Storage of codes below four bits: known bytes, round trips, refusals.
#include "../catch.hpp"

#include <cstdint>
#include <vector>

#include <notch/scheme/packed_lowbit.hpp>

using namespace notch;
using codes = std::vector<std::int8_t>;
using words = std::vector<std::uint32_t>;

TEST_CASE("bits of binary and ternary codes stand where the layout says") {
    words w(2), negative(2);
    codes c(33, -1);
    c[0] = c[31] = c[32] = 1;
    pack_binary_codes(c, w);
    CHECK(w == words{0x80000001u, 1u});
    c.assign(33, 0);
    c[1] = 1;
    c[32] = -1;
    pack_ternary_codes(c, w, negative);
    CHECK(w == words{2u, 1u});
    CHECK(negative == words{0u, 1u});
    codes back(33, 9);
    negative[0] = 1; // a negative zero
    unpack_ternary_codes(w, negative, back);
    CHECK(back == c);
    std::vector<std::uint8_t> bytes(2);
    pack_int2(codes{1, -2, -1, 0, -1}, bytes);
    CHECK(bytes == std::vector<std::uint8_t>{0b00111001, 0b11});
}

TEST_CASE("codes below four bits round-trip") {
    for (std::size_t n = 0; n < 100; ++n) {
        const auto size = static_cast<std::size_t>(packed_bits_size(static_cast<index_t>(n)));
        words w(size, 0xffffffffu), negative(size, 0xffffffffu);
        std::vector<std::uint8_t> bytes(static_cast<std::size_t>(packed_int2_size(static_cast<index_t>(n))), 0xff);
        codes binary(n), ternary(n), two(n), back(n);
        for (std::size_t i = 0; i < n; ++i) {
            binary[i] = static_cast<std::int8_t>(static_cast<int>(i * i % 7 % 2) * 2 - 1);
            ternary[i] = static_cast<std::int8_t>(static_cast<int>(i * i % 11 % 3) - 1);
            two[i] = static_cast<std::int8_t>(static_cast<int>(i * i % 13 % 4) - 2);
        }
        pack_binary_codes(binary, w);
        unpack_binary_codes(w, back);
        CHECK(back == binary);
        if (n % 32 != 0) CHECK(w.back() >> n % 32 == 0);
        pack_ternary_codes(ternary, w, negative);
        unpack_ternary_codes(w, negative, back);
        CHECK(back == ternary);
        pack_int2(two, bytes);
        unpack_int2(bytes, back);
        CHECK(back == two);
    }
}

TEST_CASE("codes that do not fit are refused") {
    words one(1), two(2);
    std::vector<std::uint8_t> byte(1);
    CHECK_THROWS_WITH(pack_binary_codes(codes{0}, one), contains_text("code 0 is not -1 or 1"));
    CHECK_THROWS_WITH(pack_binary_codes(codes{1}, two), contains_text("size of out is 2, expected 1"));
    CHECK_THROWS_WITH(pack_ternary_codes(codes{2}, one, one), contains_text("code 2 is not -1, 0 or 1"));
    CHECK_THROWS_WITH(pack_ternary_codes(codes{1}, one, two), contains_text("size of negative is 2"));
    CHECK_THROWS_WITH(pack_int2(codes{2}, byte), contains_text("code 2 is not in -2..1"));
    CHECK_THROWS_WITH(pack_int2(codes{1, 1, 1, 1, 1}, byte), contains_text("size of out is 1, expected 2"));
}
