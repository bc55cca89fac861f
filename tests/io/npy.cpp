// SPDX-License-Identifier: Apache-2.0
//
// Arrays of NumPy: its own files, what notch writes, and files made to hurt the reader.
#include <notch/io/npy.hpp>

#include "files.hpp"

using namespace io_test;
using notch::dtype;
using notch::errc;
using notch::index_t;
using notch::npy;

namespace {

/// A file of version 1 with this header and data.
bytes_t array_file(std::string_view header, std::size_t data_bytes, char major = 1) {
    std::string text("\x93NUMPY", 6);
    text += major;
    text += '\0';
    text += static_cast<char>(header.size() & 255);
    text += static_cast<char>(header.size() >> 8);
    if (major > 1) text += std::string(2, '\0');
    text += header;
    for (std::size_t i = 0; i < data_bytes; ++i) text += static_cast<char>(i);
    bytes_t file(text.size());
    std::memcpy(file.data(), text.data(), text.size());
    return file;
}

template <class T> void round_trip(dtype type, std::vector<index_t> shape, std::size_t size) {
    std::vector<T> values(size);
    for (std::size_t i = 0; i < size; ++i) values[i] = static_cast<T>(static_cast<double>(i) * 3.5);
    const npy array = npy::of<T>(values, shape, type);
    const auto file = array.to_bytes();
    const npy back = npy::parse(file.span());
    CHECK(back.type() == type);
    CHECK(back.shape() == shape);
    const auto got = back.values<T>(shape, type);
    CHECK(std::vector<T>(got.begin(), got.end()) == values);
    CHECK((file.size() - static_cast<index_t>(back.bytes().size())) % 64 == 0);
}

} // namespace

TEST_CASE("npy: what is written is read again, of every dtype and rank") {
    round_trip<float>(dtype::f32, {2, 3}, 6);
    round_trip<double>(dtype::f64, {6}, 6);
    round_trip<std::int8_t>(dtype::i8, {1, 2, 3, 1}, 6);
    round_trip<std::uint8_t>(dtype::u8, {5}, 5);
    round_trip<std::uint8_t>(dtype::bool_, {2, 1}, 2);
    round_trip<std::int16_t>(dtype::i16, {3}, 3);
    round_trip<std::uint16_t>(dtype::u16, {3}, 3);
    round_trip<std::uint16_t>(dtype::f16, {3, 2}, 6);
    round_trip<std::int32_t>(dtype::i32, {}, 1);
    round_trip<std::uint32_t>(dtype::u32, {0}, 0);
    round_trip<std::int64_t>(dtype::i64, {4, 0, 3}, 0);
    round_trip<std::uint64_t>(dtype::u64, {7}, 7);
    for (std::size_t rank = 0; rank <= 64; ++rank)
        round_trip<std::int8_t>(dtype::i8, std::vector<index_t>(rank, 1), 1); // headers of many lengths
}

TEST_CASE("npy: headers that others write") {
    const struct {
        const char* header;
        std::vector<index_t> shape;
        std::size_t bytes;
    } cases[] = {
        {"{'descr': '<i2', 'fortran_order': False, 'shape': (2, 3), }     \n", {2, 3}, 12},
        {"{'shape': (2, 3), 'fortran_order': False, 'descr': '<i2'}", {2, 3}, 12},
        {R"({"descr":"<i2","fortran_order":False,"shape":(4,)})", {4}, 8},
        {" { 'descr' : '=i2' , 'fortran_order' : True , 'shape' : ( 4 , ) } ", {4}, 8}, // one order of one dimension
        {"{'descr': '<i2', 'fortran_order': False, 'shape': ()}", {}, 2},
        {"{'descr': '<i2', 'fortran_order': False, 'shape': (0, 9223372036854775807)}", {0, 9223372036854775807}, 0},
    };
    for (const auto& c : cases)
        for (char major : {'\1', '\2', '\3'}) {
            const npy array = npy::parse(array_file(c.header, c.bytes, major));
            CHECK(array.type() == dtype::i16);
            CHECK(array.shape() == c.shape);
            if (c.bytes > 0) CHECK(array.values<std::int16_t>()[0] == 0x0100);
        }
}

TEST_CASE("npy: hostile headers") {
    const struct {
        const char* header;
        errc code;
        const char* expected;
    } cases[] = {
        {"", errc::corrupt, "not a dictionary"},
        {"{", errc::corrupt, "not a dictionary"},
        {"{}", errc::corrupt, "lacks"},
        {"{'descr': '|i1', 'fortran_order': False}", errc::corrupt, "lacks"},
        {"{'descr': '|i1', 'fortran_order': False, 'shape': (4,)} {}", errc::corrupt, "after its end"},
        {"{'descr': '|i1', 'fortran_order': False, 'shape': (4,), 'descr': '|i1'}", errc::corrupt, "key twice"},
        {"{'descr': '|i1', 'fortran_order': False, 'shape': (4,), 'x': 1}", errc::corrupt, "unknown key"},
        {"{'descr': '|i1, 'fortran_order': False, 'shape': (4,)}", errc::unsupported, "no boolean"}, // "|i1, "
        {"{'descr': '|i1', 'fortran_order': False, 'shape: (4,)}", errc::corrupt, "without an end"},
        {"{'descr': '|i1', 'fortran_order': 0, 'shape': (4,)}", errc::corrupt, "neither True nor False"},
        {"{'descr': '|i1', 'fortran_order': False, 'shape': 4}", errc::corrupt, "not a dictionary"},
        {"{'descr': '|i1', 'fortran_order': False, 'shape': (4)}", errc::corrupt, "no tuple"},
        {"{'descr': '|i1', 'fortran_order': False, 'shape': (-4,)}", errc::corrupt, "not of numbers"},
        {"{'descr': '|i1', 'fortran_order': False, 'shape': (,)}", errc::corrupt, "not of numbers"},
        {"{'descr': '|i1', 'fortran_order': False, 'shape': (4,", errc::corrupt, "not of numbers"},
        {"{'descr': '|i1', 'fortran_order': False, 'shape': (9223372036854775808,)}", errc::corrupt, "too large"},
        {"{'descr': '|i1', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", errc::corrupt, "truncated?"},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (2305843009213693952,)}", errc::corrupt, "truncated?"},
        {"{'descr': '|i1', 'fortran_order': False, 'shape': (5,)}", errc::corrupt, "truncated?"},
        {"{'descr': '|i1', 'fortran_order': False, 'shape': (3,)}", errc::corrupt, "4 bytes are not"},
        {"{'descr': '|i4', 'fortran_order': False, 'shape': (1,)}", errc::corrupt, "names no type"},
        {"{'descr': '>i1', 'fortran_order': False, 'shape': (4,)}", errc::corrupt, "names no type"},
        {"{'descr': 'i1', 'fortran_order': False, 'shape': (4,)}", errc::corrupt, "names no type"},
        {"{'descr': '>i4', 'fortran_order': False, 'shape': (1,)}", errc::unsupported, "big-endian"},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", errc::corrupt, "names no type"},
        {"{'descr': '|O8', 'fortran_order': False, 'shape': (1,)}", errc::unsupported, "pickled"},
        {"{'descr': '<U4', 'fortran_order': False, 'shape': (1,)}", errc::unsupported, "no boolean"},
        {"{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}", errc::unsupported, "no boolean"},
        {"{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (1,)}", errc::unsupported, "structures"},
        {"{'descr': '<i2', 'fortran_order': True, 'shape': (2, 1)}", errc::unsupported, "Fortran"},
    };
    for (const auto& c : cases) {
        INFO(c.header);
        CHECK(contains(error_of(c.code, [&] { (void)npy::parse(array_file(c.header, 4)); }), c.expected));
    }
    const std::string deep = "{'descr': '|i1', 'fortran_order': False, 'shape': (" + [] {
        std::string ones;
        for (int i = 0; i < 65; ++i) ones += "1,";
        return ones;
    }() + ")}";
    CHECK(contains(error_of(errc::corrupt, [&] { (void)npy::parse(array_file(deep, 1)); }), "64 dimensions"));
}

TEST_CASE("npy: cut and flipped bytes never do more than fail") {
    const bytes_t file = array_file("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }\n", 8);
    REQUIRE(npy::parse(file).shape() == std::vector<index_t>{2, 1});
    for (std::size_t n = 0; n < file.size(); ++n)
        (void)error_of(errc::corrupt, [&] { (void)npy::parse(std::span(file).first(n)); });
    std::size_t refused = 0;
    for (std::size_t i = 0; i < file.size(); ++i)
        for (int bit = 0; bit < 8; ++bit) {
            bytes_t flipped = file;
            flipped[i] ^= static_cast<std::byte>(1 << bit);
            try {
                const npy array = npy::parse(flipped);
                CHECK(array.bytes().size() == 8);
            } catch (const notch::error& e) {
                CHECK((e.code() == errc::corrupt || e.code() == errc::unsupported));
                ++refused;
            }
        }
    CHECK(refused > 400);
    bytes_t version = file;
    version[6] = std::byte{4};
    (void)error_of(errc::unsupported, [&] { (void)npy::parse(version); });
    bytes_t huge = array_file("{}", 70000, 2);
    huge[10] = std::byte{1};
    CHECK(contains(error_of(errc::unsupported, [&] { (void)npy::parse(huge); }), "header of 65538 bytes"));
}

TEST_CASE("npy: asking for another type or shape") {
    const std::int8_t values[6] = {1, 2, 3, 4, 5, 6};
    const npy array = npy::of<std::int8_t>(values, {2, 3});
    CHECK(array.values<std::int8_t>({-1, 3})[5] == 6);
    CHECK(error_of(errc::invalid_argument, [&] { (void)array.values<float>(); }) == "npy has dtype I8, expected F32");
    CHECK(error_of(errc::shape_mismatch, [&] {
              (void)array.values<std::int8_t>({3, 2});
          }) == "npy has shape [2, 3], expected [3, 2]");
    (void)error_of(errc::shape_mismatch, [&] { (void)array.values<std::int8_t>({6}); });
    (void)error_of(errc::invalid_argument, [&] { (void)array.values<std::uint8_t>({2, 3}, dtype::f16); });
    const std::span<const std::int8_t> some(values);
    (void)error_of(errc::invalid_argument, [&] { (void)npy::of(some, {2, 2}); });
    (void)error_of(errc::invalid_argument, [&] { (void)npy::of(some, {-2, -3}); });
    (void)error_of(errc::invalid_argument, [&] { (void)npy::of(some, {2, 3}, dtype::f16); });
    (void)error_of(errc::invalid_argument, [&] { (void)npy::of(some.first(1), std::vector<index_t>(65, 1)); });
    const std::uint16_t halves[2] = {1, 2};
    (void)error_of(errc::unsupported, [&] { (void)npy::of<std::uint16_t>(halves, {2}, dtype::bf16); });
}

TEST_CASE("npy: files") {
    scratch_folder folder;
    const float values[3] = {1.0f, -2.5f, 1e-30f};
    const npy array = npy::of<float>(values, {3});
    const std::string path = folder.file("a.npy");
    array.save(path);
    CHECK(folder.count() == 1);
    const npy back = npy::load(path);
    CHECK(std::equal(std::begin(values), std::end(values), back.values<float>({3}).begin()));
    CHECK(back.label() == path);
    (void)error_of(errc::io, [&] { (void)npy::load(path, 139); });
    (void)npy::load(path, 140);
    (void)error_of(errc::io, [&] { (void)npy::load(folder.file("none")); });
    (void)error_of(errc::io, [&] { array.save(folder.file("none/a.npy")); });
}
