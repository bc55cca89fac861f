// SPDX-License-Identifier: Apache-2.0
//
// NumPy's archives of arrays: its own, those that notch writes, and damaged ones.
#include <notch/io/npz.hpp>

#include "files.hpp"

using namespace io_test;
using notch::dtype;
using notch::errc;
using notch::index_t;
using notch::npy;
using notch::npz;

namespace {

const std::string golden = NOTCH_SOURCE_DIR "/tests/golden/arrays_numpy";

/// (0 .. 5) - 2 as T, in two rows of three.
template <class T> void check_array(const npz& arrays, const char* name, dtype type) {
    const npy& array = arrays.array(name);
    CHECK(array.type() == type);
    const auto values = array.values<T>({2, 3});
    for (int i = 0; i < 6; ++i) CHECK(values[static_cast<std::size_t>(i)] == static_cast<T>(i - 2));
}

npz two_arrays() {
    npz arrays;
    const float a[3] = {1, 2, 3};
    const std::int8_t b[2] = {-1, 5};
    arrays.put("conv/weight", npy::of<float>(a, {3, 1}));
    arrays.put("b", npy::of<std::int8_t>(b, {2}));
    return arrays;
}

} // namespace

TEST_CASE("npz: archives that NumPy wrote, stored and compressed") {
    for (const char* end : {".npz", "_compressed.npz"}) {
        const npz arrays = npz::load(golden + end);
        CHECK(arrays.arrays().size() == 16);
        check_array<float>(arrays, "float32", dtype::f32);
        check_array<double>(arrays, "float64", dtype::f64);
        check_array<std::int8_t>(arrays, "int8", dtype::i8);
        check_array<std::int16_t>(arrays, "int16", dtype::i16);
        check_array<std::int32_t>(arrays, "int32", dtype::i32);
        check_array<std::int64_t>(arrays, "int64", dtype::i64);
        check_array<std::uint8_t>(arrays, "uint8", dtype::u8);
        check_array<std::uint16_t>(arrays, "uint16", dtype::u16);
        check_array<std::uint32_t>(arrays, "uint32", dtype::u32);
        check_array<std::uint64_t>(arrays, "uint64", dtype::u64);
        const auto halves = arrays.array("float16").values<std::uint16_t>({2, 3}, dtype::f16);
        CHECK(halves[0] == 0xc000); // -2
        CHECK(halves[5] == 0x4200); // 3
        CHECK(arrays.array("bool").values<std::uint8_t>({3}, dtype::bool_)[2] == 1);
        CHECK(arrays.array("scalar").values<float>({})[0] == 2.5f);
        CHECK(arrays.array("empty").values<std::int8_t>({0, 4}).empty());
        CHECK(arrays.array("layer/weight").values<std::int8_t>({1, 2, 1, 3})[5] == 7);
        CHECK(arrays.array("zeros").values<float>({1000})[999] == 0.0f);
    }
}

TEST_CASE("npz: what is written is read again, and the same bytes each time") {
    const npz arrays = two_arrays();
    const auto bytes = arrays.to_bytes();
    const npz back = npz::parse(bytes.span());
    CHECK(back.arrays().size() == 2);
    CHECK(back.array("conv/weight").values<float>({3, 1})[2] == 3.0f);
    CHECK(back.array("b").values<std::int8_t>({2})[0] == -1);
    const auto again = back.to_bytes();
    CHECK(std::equal(bytes.begin(), bytes.end(), again.begin(), again.end()));
    CHECK(npz::parse(npz().to_bytes().span()).arrays().empty());

    scratch_folder folder;
    const std::string path = folder.file("a.npz");
    arrays.save(path);
    CHECK(folder.count() == 1);
    CHECK(npz::load(path).contains("b"));
    CHECK(contains(error_of(errc::invalid_argument, [&] { (void)npz::load(path).array("c"); }), path));
    (void)error_of(errc::io, [&] { (void)npz::load(path, static_cast<std::uint64_t>(bytes.size()) - 1); });
    (void)error_of(errc::io, [&] { arrays.save(folder.file("none/a.npz")); });
}

TEST_CASE("npz: names") {
    npz arrays = two_arrays();
    const npy array = arrays.array("b");
    (void)error_of(errc::invalid_argument, [&] { arrays.put("", array); });
    (void)error_of(errc::invalid_argument, [&] { arrays.put(std::string("a\0b", 3), array); });
    arrays.put("\xc3\xa9t\xc3\xa9", array); // in UTF-8, as NumPy writes them
    CHECK(npz::parse(arrays.to_bytes().span()).contains("\xc3\xa9t\xc3\xa9"));
}

TEST_CASE("npz: damage is noticed") {
    const auto good = two_arrays().to_bytes();
    const bytes_t file(good.begin(), good.end());
    for (std::size_t n = 0; n < file.size(); ++n)
        (void)error_of(errc::corrupt, [&] { (void)npz::parse(std::span(file).first(n)); });
    for (std::size_t i = 0; i < file.size(); ++i)
        for (int bit : {0, 3, 7}) {
            bytes_t flipped = file;
            flipped[i] ^= static_cast<std::byte>(1 << bit);
            try {
                const npz arrays = npz::parse(flipped);
                // Times, flags and versions of the archive may change unnoticed, the arrays not.
                for (const auto& [name, array] : arrays.arrays()) CHECK((array.bytes().size() | 14) == 14);
            } catch (const notch::error& e) {
                CHECK((e.code() == errc::corrupt || e.code() == errc::unsupported || e.code() == errc::io));
            }
        }
    bytes_t value = file; // of the first array, behind its 30 + 5 bytes of a member's header and 128 of its own
    value[30 + 5 + 128] ^= std::byte{1};
    CHECK(contains(error_of(errc::corrupt, [&] { (void)npz::parse(value); }), "b.npy"));
}

TEST_CASE("npz: archives of something else, and bombs") {
    const auto zipped = [](std::initializer_list<std::pair<const char*, std::string>> members) {
        zip_error_t error;
        zip_error_init(&error);
        zip_source_t* source = zip_source_buffer_create(nullptr, 0, 0, &error);
        zip_t* archive = zip_open_from_source(source, ZIP_TRUNCATE, &error);
        zip_source_keep(source);
        for (const auto& [name, text] : members)
            zip_file_add(archive, name, zip_source_buffer(archive, text.data(), text.size(), 0), 0);
        REQUIRE(zip_close(archive) == 0);
        zip_stat_t stat;
        zip_stat_init(&stat);
        zip_source_stat(source, &stat);
        bytes_t bytes(stat.size);
        zip_source_open(source);
        zip_source_read(source, bytes.data(), stat.size);
        zip_source_close(source);
        zip_source_free(source);
        return bytes;
    };
    CHECK(contains(error_of(errc::corrupt,
                            [&] {
                                (void)npz::parse(zipped({{"readme.txt", "hello"}}));
                            }),
                   "readme.txt"));
    CHECK(contains(error_of(errc::corrupt, [&] { (void)npz::parse(zipped({{"a.npy", "hello"}})); }), "a.npy"));
    CHECK(contains(error_of(errc::corrupt, [&] { (void)npz::parse(zipped({{".npy", "hello"}})); }), "is no array"));
    const std::string zeros(10'000'000, '\0');
    const bytes_t bomb = zipped({{"a.npy", zeros}});
    CHECK(bomb.size() < 20'000);
    CHECK(contains(error_of(errc::io, [&] { (void)npz::parse(bomb, "bomb", 1'000'000); }), "limit of 1000000"));
    (void)error_of(errc::corrupt, [&] { (void)npz::parse(bomb); }); // unpacked, and no array
    // A size of the directory and of the member's header that deflate cannot reach.
    bytes_t liar = bomb;
    const std::uint32_t size = 4'000'000'000u;
    const std::string_view text(reinterpret_cast<const char*>(liar.data()), liar.size());
    std::memcpy(liar.data() + 22, &size, 4);
    std::memcpy(liar.data() + text.rfind("PK\x01\x02") + 24, &size, 4);
    CHECK(contains(error_of(errc::corrupt, [&] { (void)npz::parse(liar); }), "more bytes than it can have"));
}
