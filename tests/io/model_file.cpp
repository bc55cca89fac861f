// SPDX-License-Identifier: Apache-2.0
//
// The saved model: what is written is read back, and nothing else is.
#include <notch/io/model_file.hpp>

#include <cmath>
#include <cstdio>
#include <limits>

#include "files.hpp"

#if defined(__linux__)
#include <csignal>
#include <sys/resource.h>
#endif

using namespace io_test;
using notch::errc;

namespace {

notch::model_writer small_model() {
    const std::vector<float> scale = {0.25f, std::numeric_limits<float>::denorm_min(), -0.0f};
    notch::buffer<std::int8_t> codes(6);
    for (notch::index_t i = 0; i < 6; ++i) codes[i] = static_cast<std::int8_t>(i * 50 - 128);
    const std::int32_t bias[3] = {std::numeric_limits<std::int32_t>::min(), 0, 7};
    const std::uint16_t half[1] = {0x3f80};
    notch::model_writer out("small_cnn");
    out.add<std::int8_t>("conv.weight", {3, 2}, codes);
    out.add<float>("conv.scale", {3}, scale);
    out.add<std::int32_t>("conv.bias", {3}, bias);
    out.add("half", notch::dtype::bf16, {1}, std::as_bytes(std::span(half)));
    out.add<std::int64_t>("none", {0, 5}, {});
    out.meta("z", "1").meta("input", "28\"x\n28 \xc3\xa9");
    return out;
}

bytes_t as_vector(const notch::buffer<std::byte>& b) { return {b.begin(), b.end()}; }

/// The file with its checksum made right again.
bytes_t resealed(bytes_t file) {
    const auto digits = notch::detail::model_checksum(file);
    std::memcpy(file.data() + notch::detail::checksum_at, digits.data(), digits.size());
    return file;
}

} // namespace

TEST_CASE("model_file: what is saved is loaded") {
    scratch_folder folder;
    const std::string path = folder.file("model.notch");
    const notch::index_t bytes = small_model().save(path);
    CHECK(folder.count() == 1);
    CHECK(static_cast<std::uintmax_t>(bytes) == std::filesystem::file_size(path));

    const auto model = notch::model_file::load(path);
    CHECK(model.label() == path);
    CHECK(model.file_bytes() == bytes);
    CHECK(model.architecture() == "small_cnn");
    CHECK(model.meta("z") == "1");
    CHECK(model.meta("input") == "28\"x\n28 \xc3\xa9");
    CHECK(contains(error_of(errc::invalid_argument, [&] { (void)model.meta("no"); }), "\"no\""));
    CHECK(model.tensors().size() == 5);
    const auto codes = model.tensor<std::int8_t>("conv.weight", {3, 2});
    for (std::size_t i = 0; i < 6; ++i) CHECK(codes[i] == static_cast<int>(i) * 50 - 128);
    const auto scale = model.tensor<float>("conv.scale", {-1});
    CHECK(scale[1] == std::numeric_limits<float>::denorm_min());
    CHECK(std::signbit(scale[2]));
    CHECK(model.tensor<std::int32_t>("conv.bias")[0] == std::numeric_limits<std::int32_t>::min());
    CHECK(model.tensor<std::uint16_t>("half", {1}, notch::dtype::bf16)[0] == 0x3f80);
    CHECK(model.tensor<std::int64_t>("none", {0, 5}).empty());

    // It is also a plain safetensors file.
    const auto plain = notch::safetensors::load(path);
    CHECK(plain.tensor<float>("conv.scale")[0] == 0.25f);
    CHECK(*plain.find_metadata("notch") == "1");
}

TEST_CASE("model_file: every tensor is aligned for its type") {
    const auto model = notch::model_file::parse(small_model().to_bytes());
    for (const auto& t : model.tensors()) {
        if (t.begin == t.end) continue;
        const auto address = reinterpret_cast<std::uintptr_t>(model.bytes(t.name).data());
        CHECK(address % static_cast<std::uintptr_t>(notch::size_of(t.type)) == 0);
    }
}

TEST_CASE("model_file: the format is as documented") {
    notch::model_writer out("x");
    const std::uint8_t codes[2] = {1, 2};
    const float scale[1] = {1.0f};
    out.add<std::uint8_t>("a", {2}, codes).add<float>("b", {}, scale).meta("k", "v");
    const bytes_t file = as_vector(out.to_bytes());
    std::uint64_t length = 0;
    std::memcpy(&length, file.data(), 8);
    CHECK(length % 8 == 0);
    CHECK(file.size() == 8 + length + 6);
    const std::string header(reinterpret_cast<const char*>(file.data()) + 8, length);
    const std::string crc = header.substr(26, 8);
    const std::string expected =
        R"({"__metadata__":{"crc32":")" + crc +
        R"(","notch":"1","arch":"x","k":"v"},"b":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
        R"("a":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}})";
    REQUIRE(length >= expected.size());
    CHECK(length < expected.size() + 8);
    CHECK(header == expected + std::string(length - expected.size(), ' '));
    std::string zeroed(reinterpret_cast<const char*>(file.data()), file.size());
    zeroed.replace(8 + 26, 8, "00000000");
    char text[16];
    std::snprintf(text, sizeof text, "%08x", notch::detail::crc32(0, std::as_bytes(std::span(zeroed))));
    CHECK(crc == text);
    // The check value of this CRC's definition.
    CHECK(notch::detail::crc32(0, std::as_bytes(std::span("123456789", 9))) == 0xcbf43926u);
}

TEST_CASE("model_file: the same content gives the same bytes, in whatever order it came") {
    const std::uint8_t a[1] = {1}, b[1] = {2};
    notch::model_writer one("x"), other("x");
    one.add<std::uint8_t>("a", {1}, a).add<std::uint8_t>("b", {1}, b).meta("k", "1").meta("l", "2");
    other.meta("l", "2").add<std::uint8_t>("b", {1}, b).meta("k", "1").add<std::uint8_t>("a", {1}, a);
    CHECK(as_vector(one.to_bytes()) == as_vector(other.to_bytes()));
    CHECK(as_vector(small_model().to_bytes()) == as_vector(small_model().to_bytes()));
}

TEST_CASE("model_file: every flipped bit is noticed") {
    const bytes_t original = as_vector(small_model().to_bytes());
    REQUIRE_NOTHROW((void)notch::model_file::parse(original));
    for (std::size_t bit = 0; bit < original.size() * 8; ++bit) {
        bytes_t file = original;
        file[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
        CAPTURE(bit);
        CHECK(contains(error_of(errc::corrupt, [&] { (void)notch::model_file::parse(file, "m"); }), "m: "));
    }
}

TEST_CASE("model_file: a damaged file on disk is refused as one in memory") {
    scratch_folder folder;
    const bytes_t original = as_vector(small_model().to_bytes());
    for (std::size_t at : {std::size_t{0}, std::size_t{30}, std::size_t{40}, original.size() - 1}) {
        bytes_t file = original;
        file[at] ^= std::byte{4};
        write_bytes(folder.file("m"), file);
        const std::string message = error_of(errc::corrupt, [&] { (void)notch::model_file::load(folder.file("m")); });
        CHECK(contains(message, folder.file("m")));
    }
}

TEST_CASE("model_file: truncated at every byte, or longer") {
    bytes_t file = as_vector(small_model().to_bytes());
    for (std::size_t size = 0; size < file.size(); ++size)
        (void)error_of(errc::corrupt, [&] { (void)notch::model_file::parse(std::span(file).first(size)); });
    file.push_back(std::byte{0});
    (void)error_of(errc::corrupt, [&] { (void)notch::model_file::parse(file); });
    // Also with a checksum that fits.
    CHECK(contains(error_of(errc::corrupt, [&] { (void)notch::model_file::parse(resealed(file)); }), "belong to none"));
}

TEST_CASE("model_file: every flipped bit with a right checksum is an error or another valid model") {
    const bytes_t original = as_vector(small_model().to_bytes());
    for (std::size_t bit = 0; bit < original.size() * 8; ++bit) {
        bytes_t file = original;
        file[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
        try {
            const auto model = notch::model_file::parse(resealed(file));
            for (const auto& t : model.tensors()) (void)model.bytes(t.name);
        } catch (const notch::error& e) {
            CHECK((e.code() == errc::corrupt || e.code() == errc::unsupported));
        }
    }
}

TEST_CASE("model_file: another version and foreign files are told apart from damage") {
    bytes_t file = as_vector(small_model().to_bytes());
    const std::size_t version = 8 + std::string_view(R"({"__metadata__":{"crc32":"00000000","notch":")").size();
    REQUIRE(file[version] == std::byte{'1'});
    file[version] = std::byte{'2'};
    CHECK(contains(error_of(errc::unsupported, [&] { (void)notch::model_file::parse(resealed(file)); }),
                   "format version \"2\""));
    CHECK(contains(error_of(errc::corrupt,
                            [&] {
                                (void)notch::model_file::parse(
                                    container(R"({"a":{"dtype":"I8","shape":[64],"data_offsets":[0,64]}})", 64));
                            }),
                   "not a saved model of notch"));
    const bytes_t bare = container(R"({"__metadata__":{"crc32":"00000000","notch":"1"}})", 0);
    CHECK(contains(error_of(errc::corrupt, [&] { (void)notch::model_file::parse(resealed(bare)); }), "architecture"));
    const bytes_t none = container(R"({"__metadata__":{"crc32":"00000000"}})", 0);
    CHECK(contains(error_of(errc::corrupt, [&] { (void)notch::model_file::parse(resealed(none)); }), "version"));
}

TEST_CASE("model_writer: bad arguments are named and change nothing") {
    notch::model_writer out("x");
    const std::uint8_t codes[2] = {1, 2};
    out.add<std::uint8_t>("a", {2}, codes).meta("k", "v");
    const bytes_t before = as_vector(out.to_bytes());
    const auto refused = [&](errc code, auto&& f) {
        const std::string message = error_of(code, f);
        CHECK(as_vector(out.to_bytes()) == before);
        return message;
    };
    CHECK(contains(refused(errc::invalid_argument, [&] { out.add<std::uint8_t>("a", {2}, codes); }), "\"a\""));
    CHECK(contains(refused(errc::shape_mismatch, [&] { out.add<std::uint8_t>("b", {3}, codes); }),
                   "\"b\" of shape [3] and dtype U8 needs 3 bytes, 2 were given"));
    (void)refused(errc::shape_mismatch, [&] { out.add<std::uint8_t>("b", {}, codes); });
    (void)refused(errc::shape_mismatch, [&] { out.add<std::uint8_t>("b", {1}, {}); });
    (void)refused(errc::invalid_argument, [&] { out.add<std::uint8_t>("b", {-2}, codes); });
    (void)refused(errc::invalid_argument, [&] { out.add<std::uint8_t>("", {2}, codes); });
    (void)refused(errc::invalid_argument, [&] { out.add<std::uint8_t>("__metadata__", {2}, codes); });
    (void)refused(errc::invalid_argument, [&] { out.add<std::uint8_t>("\xff", {2}, codes); });
    (void)refused(errc::invalid_argument,
                  [&] { out.add<std::uint8_t>("b", std::vector<notch::index_t>(33, 1), codes); });
    (void)refused(errc::overflow, [&] {
        out.add<std::uint8_t>("b", {notch::index_t{1} << 40, notch::index_t{1} << 40}, codes);
    });
    (void)refused(errc::invalid_argument, [&] { out.meta("k", "w"); });
    for (const char* key : {"", "crc32", "notch", "arch", "\xc3"})
        (void)refused(errc::invalid_argument, [&] { out.meta(key, "w"); });
    (void)refused(errc::invalid_argument, [&] { out.meta("l", "\x80"); });
    (void)error_of(errc::invalid_argument, [] { (void)notch::model_writer("\xff").to_bytes(); });
}

TEST_CASE("model_writer: names and texts of any UTF-8 come back") {
    using namespace std::string_literals;
    const std::string odd = "quote\" back\\ \n\t\x01\x7f nul\0 \xe2\x82\xac \xf0\x9f\x98\x80"s;
    const std::uint8_t codes[1] = {9};
    notch::model_writer out(odd);
    out.add<std::uint8_t>(odd, {1}, codes).meta(odd, odd);
    const auto model = notch::model_file::parse(out.to_bytes());
    CHECK(model.architecture() == odd);
    CHECK(model.meta(odd) == odd);
    CHECK(model.tensor<std::uint8_t>(odd)[0] == 9);
}

TEST_CASE("model_writer: a failed save leaves no file and keeps the old one") {
    scratch_folder folder;
    const auto out = small_model();
    const std::string path = folder.file("m.notch");

    CHECK(contains(error_of(errc::io, [&] { out.save(folder.file("no/such/folder/m")); }), "no/such/folder/m"));
    CHECK(folder.count() == 0);
    (void)error_of(errc::io, [&] { out.save(""); });

    // The target is a folder: the rename fails.
    std::filesystem::create_directories(folder.file("folder/inside"));
    (void)error_of(errc::io, [&] { out.save(folder.file("folder")); });
    CHECK(folder.count() == 1);

    // The temporary file cannot be created: the old file stays as it was.
    const bytes_t old = {std::byte{'o'}, std::byte{'l'}, std::byte{'d'}};
    write_bytes(path, old);
    const std::string longest = folder.file(std::string(253, 'x'));
    write_bytes(longest, old);
    (void)error_of(errc::io, [&] { out.save(longest); });
    CHECK(read_bytes(longest) == old);
    std::filesystem::remove(longest);

#if defined(__linux__)
    // The disk is full in the middle of the file.
    rlimit limit{};
    REQUIRE(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    rlimit small = limit;
    small.rlim_cur = 100;
    REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
    const std::string message = error_of(errc::io, [&] { out.save(path); });
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    std::signal(SIGXFSZ, handler);
    CHECK(contains(message, path));
    CHECK(read_bytes(path) == old);
    CHECK(folder.count() == 2);
#endif

    out.save(path);
    CHECK(notch::model_file::load(path).architecture() == "small_cnn");
    CHECK(folder.count() == 2);
}

TEST_CASE("model_writer: saving touches no other file") {
    scratch_folder folder;
    const auto out = small_model();
    const std::string path = folder.file("m.notch"), link = folder.file("link");
    const bytes_t other = {std::byte{'o'}};
    for (const char* suffix : {".tmp", ".0.tmp"}) write_bytes(path + suffix, other);
    std::filesystem::create_symlink("m.notch", link);
    out.save(link); // through the link, also while it dangles
    out.save(link);
    CHECK(std::filesystem::is_symlink(link));
    CHECK(notch::model_file::load(path).architecture() == "small_cnn");
    for (const char* suffix : {".tmp", ".0.tmp"}) CHECK(read_bytes(path + suffix) == other);
    CHECK(folder.count() == 4);
    std::filesystem::permissions(path, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
    out.save(path);
    CHECK(std::filesystem::status(path).permissions() ==
          (std::filesystem::perms::owner_read | std::filesystem::perms::owner_write));
#if defined(__linux__)
    CHECK(contains(error_of(errc::io, [&] { out.save("/dev/null"); }), "not a regular file"));
#endif
}

TEST_CASE("model_writer: an unknown dtype is refused") {
    notch::model_writer out("a");
    const std::byte bytes[4] = {};
    (void)error_of(errc::invalid_argument, [&] { out.add("t", static_cast<notch::dtype>(99), {4}, bytes); });
}

TEST_CASE("model_file: an unknown dtype is refused, and so is a file that was moved from") {
    notch::model_writer out("a");
    out.add<std::uint16_t>("t", {1}, std::vector<std::uint16_t>{7});
    auto file = notch::model_file::parse(out.to_bytes().span());
    const auto bad = static_cast<notch::dtype>(77);
    CHECK(contains(error_of(errc::invalid_argument, [&] { (void)file.tensor<std::uint16_t>("t", {1}, bad); }),
                   "unknown"));
    CHECK(notch::size_of(bad) == 0);
    CHECK(std::string(to_string(bad)) == "unknown");
    const auto other = std::move(file);
    CHECK(contains(error_of(errc::invalid_argument, [&] { (void)file.architecture(); }), "moved from"));
    CHECK(other.architecture() == "a");
}
