// SPDX-License-Identifier: Apache-2.0
//
// The safetensors reader: files of other writers, and files made to hurt it.
#include <notch/io/safetensors.hpp>

#include "files.hpp"

using namespace io_test;

TEST_CASE("safetensors: a file of the Python package") {
    // safetensors.numpy.save({"b.scale": float32 [0.5, -2, 1e-3], "a.codes": int8 [[-128, 127], [0,
    // 1]],
    //     "c.step": int64 7, "empty": float16 of shape (0, 4)}, metadata={"made": "elsewhere"})
    const std::string_view header =
        R"({"__metadata__":{"made":"elsewhere"},"c.step":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
        R"("b.scale":{"dtype":"F32","shape":[3],"data_offsets":[8,20]},)"
        R"("empty":{"dtype":"F16","shape":[0,4],"data_offsets":[20,20]},)"
        R"("a.codes":{"dtype":"I8","shape":[2,2],"data_offsets":[20,24]}}   )";
    bytes_t file = container(header, 24);
    std::byte* data = file.data() + 8 + header.size();
    const std::int64_t step = 7;
    const float scale[3] = {0.5f, -2.0f, 1e-3f};
    const std::int8_t codes[4] = {-128, 127, 0, 1};
    std::memcpy(data, &step, 8);
    std::memcpy(data + 8, scale, 12);
    std::memcpy(data + 20, codes, 4);

    const auto check = [&](const notch::safetensors& st) {
        REQUIRE(st.tensors().size() == 4);
        CHECK(st.tensors()[0].name == "a.codes");
        CHECK(st.tensor<std::int64_t>("c.step", {})[0] == 7);
        CHECK(st.tensor<float>("b.scale", {3})[1] == -2.0f);
        CHECK(st.tensor<float>("b.scale")[2] == 1e-3f);
        CHECK(st.tensor<std::int8_t>("a.codes", {-1, 2})[0] == -128);
        CHECK(st.tensor<std::uint16_t>("empty", {0, 4}, notch::dtype::f16).empty());
        CHECK(st.copy<std::int8_t>("a.codes")[3] == 1);
        CHECK(st.bytes("a.codes").size() == 4);
        REQUIRE(st.find_metadata("made"));
        CHECK(*st.find_metadata("made") == "elsewhere");
        CHECK(st.find_metadata("format") == nullptr);
        CHECK(st.contains("empty"));
        CHECK_FALSE(st.contains("a"));
    };
    const auto parsed = notch::safetensors::parse(file);
    check(parsed);
    notch::safetensors copied = parsed;
    check(copied);
    const std::span<const float> before = copied.tensor<float>("b.scale");
    const notch::safetensors moved = std::move(copied);
    check(moved);
    CHECK(moved.tensor<float>("b.scale").data() == before.data());

    scratch_folder folder;
    write_bytes(folder.file("foreign.safetensors"), file);
    check(notch::safetensors::load(folder.file("foreign.safetensors")));
}

TEST_CASE("safetensors: a header of any length leaves the data aligned") {
    for (std::size_t spaces = 0; spaces < 9; ++spaces) {
        const std::string header =
            R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})" + std::string(spaces, ' ');
        const auto st = notch::safetensors::parse(container(header, 8));
        const float expected = std::bit_cast<float>(std::uint32_t{0x07060504});
        CHECK(st.tensor<float>("x", {2})[1] == expected);
    }
}

TEST_CASE("safetensors: an unaligned tensor is refused as a span and read as a copy") {
    const auto st = notch::safetensors::parse(container(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                                        R"("b":{"dtype":"I32","shape":[1],"data_offsets":[1,5]}})",
                                                        5));
    CHECK(contains(error_of(notch::errc::unsupported, [&] { (void)st.tensor<std::int32_t>("b"); }), "copy<T>"));
    CHECK(st.copy<std::int32_t>("b")[0] == 0x04030201);
}

TEST_CASE("safetensors: asking for what is not there names the tensor and the file") {
    const auto st = notch::safetensors::parse(
        container(R"({"w":{"dtype":"I8","shape":[2,3],"data_offsets":[0,6]}})", 6), "some/file");
    using notch::errc;
    CHECK(error_of(errc::invalid_argument, [&] { (void)st.tensor<std::int8_t>("v"); }) ==
          R"(some/file: no tensor "v" among its 1 tensors)");
    CHECK(error_of(errc::invalid_argument, [&] { (void)st.tensor<float>("w"); }) ==
          R"(some/file: tensor "w" has dtype I8, expected F32)");
    CHECK(error_of(errc::shape_mismatch, [&] {
              (void)st.tensor<std::int8_t>("w", {3, 2});
          }) == R"(some/file: tensor "w" has shape [2, 3], expected [3, 2])");
    CHECK(contains(error_of(errc::shape_mismatch, [&] { (void)st.tensor<std::int8_t>("w", {6}); }), "[6]"));
    CHECK(contains(error_of(errc::shape_mismatch, [&] { (void)st.tensor<std::int8_t>("w", {2, -2}); }), "[2, -2]"));
    CHECK(contains(error_of(errc::invalid_argument,
                            [&] {
                                (void)st.tensor<std::uint16_t>("w", {2, 3}, notch::dtype::i8);
                            }),
                   "elements of 2 bytes"));
    (void)error_of(errc::invalid_argument, [&] { (void)st.copy<float>("w"); });
    (void)error_of(errc::invalid_argument, [&] { (void)st.bytes("v"); });
    (void)error_of(errc::invalid_argument, [&] { (void)st.info("v"); });
}

TEST_CASE("safetensors: hostile headers") {
    struct hostile {
        const char* header;
        std::size_t data_bytes;
        const char* expected; // part of the message
    };
    const hostile cases[] = {
        {"", 0, "not a JSON object"},
        {" {}", 0, "not a JSON object"},
        {"[]", 0, "not a JSON object"},
        {"{", 0, "not valid JSON"},
        {"{}x", 0, "not valid JSON"},
        {"{} {}", 0, "not valid JSON"},
        {"{,}", 0, "not valid JSON"},
        {"{\"a\xff\":{}}", 0, "not valid JSON"},
        {"{}", 1, "1 bytes after the last tensor belong to none"},
        {R"({"a":1})", 0, "a number"},
        {R"({"a":null})", 0, "null"},
        {R"({"a":[]})", 0, "an array"},
        {R"({"a":{}})", 0, "tensor \"a\" has no dtype"},
        {R"({"a":{"dtype":"I8"}})", 0, "tensor \"a\" has no shape"},
        {R"({"a":{"dtype":"I8","shape":[]}})", 0, "tensor \"a\" has no data_offsets"},
        {R"({"a":{"dtype":"Q3","shape":[1],"data_offsets":[0,1]}})", 1, "unknown dtype \"Q3\""},
        {R"({"a":{"dtype":8,"shape":[1],"data_offsets":[0,1]}})", 1, "a number"},
        {R"({"a":{"dtype":["I8"],"shape":[1],"data_offsets":[0,1]}})", 1, "an array"},
        {R"({"a":{"dtype":{"x":1},"shape":[1],"data_offsets":[0,1]}})", 1, "an object"},
        {R"({"a":{"dtype":"I8","shape":"1","data_offsets":[0,1]}})", 1, "a string"},
        {R"({"a":{"dtype":"I8","shape":["1"],"data_offsets":[0,1]}})", 1, "a string"},
        {R"({"a":{"dtype":"I8","shape":[[1]],"data_offsets":[0,1]}})", 1, "an array"},
        {R"({"a":{"dtype":"I8","shape":[true],"data_offsets":[0,1]}})", 1, "a boolean"},
        {R"({"a":{"dtype":"I8","shape":[-1],"data_offsets":[0,1]}})", 1, "a negative number"},
        {R"({"a":{"dtype":"I8","shape":[1.0],"data_offsets":[0,1]}})", 1, "not a 64-bit integer"},
        {R"({"a":{"dtype":"I8","shape":[18446744073709551616],"data_offsets":[0,1]}})", 1, "not a 64-bit integer"},
        {R"({"a":{"dtype":"I8","shape":[1e999],"data_offsets":[0,1]}})", 1, ""},
        {R"({"a":{"dtype":"I8","shape":[9223372036854775808],"data_offsets":[0,1]}})", 1, "too large"},
        {R"({"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,1]}})", 1, "overflows"},
        {R"({"a":{"dtype":"I8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0, "overflows"},
        {R"({"a":{"dtype":"I8","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})",
         1, "more than 32 dimensions"},
        {R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[0]}})", 1, "not two numbers"},
        {R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1,1]}})", 1, "not two numbers"},
        {R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[-1,0]}})", 1, "a negative number"},
        {R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[1,0]}})", 1, "outside"},
        {R"({"a":{"dtype":"I8","shape":[2],"data_offsets":[0,2]}})", 1, "outside the 1 bytes"},
        {R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[9223372036854775807,9223372036854775807]}})", 1, "outside"},
        {R"({"a":{"dtype":"I16","shape":[1],"data_offsets":[0,1]}})", 1, "needs 2 bytes"},
        {R"({"a":{"dtype":"I8","shape":[0],"data_offsets":[0,1]}})", 1, "needs 0 bytes"},
        {R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[1,2]}})", 2, "after a gap"},
        {R"({"a":{"dtype":"I8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"I8","shape":[2],"data_offsets":[1,3]}})",
         3, "tensor \"b\" starts at byte 1 of the data, inside another tensor"},
        {R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}})",
         1, "inside another tensor"},
        {R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"I8","shape":[1],"data_offsets":[1,2]}})",
         2, "two tensors are called \"a\""},
        {R"({"a":{"dtype":"I8","dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1, "two dtypes"},
        {R"({"a":{"dtype":"I8","shape":[1],"shape":[1],"data_offsets":[0,1]}})", 1, "two shape"},
        {R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1],"data_offsets":[0,1]}})", 1, "two data_offsets"},
        {R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1],"more":"x"}})", 1, "a string"},
        {R"({"__metadata__":{"a":"1","a":"2"}})", 0, "two metadata are called \"a\""},
        {R"({"__metadata__":{},"__metadata__":{}})", 0, "two __metadata__"},
        {R"({"__metadata__":{"a":1}})", 0, "a number"},
        {R"({"__metadata__":{"a":{}}})", 0, "an object"},
        {R"({"__metadata__":"x"})", 0, "a string"},
        {R"({"\u001b[31m":{}})", 0, "\\u001b[31m"}, // no escape sequence reaches the terminal
    };
    for (const hostile& h : cases) {
        CAPTURE(h.header);
        const std::string message = error_of(
            notch::errc::corrupt, [&] { (void)notch::safetensors::parse(container(h.header, h.data_bytes), "evil"); });
        CAPTURE(message);
        CHECK(message.rfind("evil: ", 0) == 0);
        CHECK(contains(message, h.expected));
        CHECK(message.size() < 500);
    }
    const std::string zero_byte("{}\0{}", 5);
    (void)error_of(notch::errc::corrupt, [&] { (void)notch::safetensors::parse(container(zero_byte, 0)); });
    const std::string deep = "{\"a\":" + std::string(1'000'000, '[');
    (void)error_of(notch::errc::corrupt, [&] { (void)notch::safetensors::parse(container(deep, 0)); });
    const std::string long_name = "{\"" + std::string(1'000'000, 'n') + "\":{}}";
    const std::string message =
        error_of(notch::errc::corrupt, [&] { (void)notch::safetensors::parse(container(long_name, 0)); });
    CHECK(message.size() < 200);
}

TEST_CASE("safetensors: header lengths that lie") {
    bytes_t file = container(R"({"a":{"dtype":"I8","shape":[4],"data_offsets":[0,4]}})", 4);
    const auto parse_with_length = [&](std::uint64_t length) {
        std::memcpy(file.data(), &length, 8);
        return error_of(notch::errc::corrupt, [&] { (void)notch::safetensors::parse(file); });
    };
    for (std::uint64_t length = 0; length <= file.size(); ++length)
        if (length != file.size() - 12) (void)parse_with_length(length);
    CHECK(contains(parse_with_length(file.size()), "truncated"));
    CHECK(contains(parse_with_length(100'000'001), "limit"));
    CHECK(contains(parse_with_length(~std::uint64_t{0}), "limit"));
    CHECK(contains(parse_with_length(~std::uint64_t{0} - 7), "limit"));
}

TEST_CASE("safetensors: truncated at every byte") {
    const bytes_t file = container(R"({"a":{"dtype":"I8","shape":[4],"data_offsets":[0,4]},)"
                                   R"("b":{"dtype":"I8","shape":[4],"data_offsets":[4,8]}})",
                                   8);
    REQUIRE_NOTHROW((void)notch::safetensors::parse(file));
    for (std::size_t size = 0; size < file.size(); ++size)
        (void)error_of(notch::errc::corrupt, [&] { (void)notch::safetensors::parse(std::span(file).first(size)); });
}

TEST_CASE("safetensors: any flipped bit is an error or another valid file, never a crash") {
    const bytes_t original =
        container(R"({"__metadata__":{"k":"v"},"a":{"dtype":"I16","shape":[2,1],"data_offsets":[0,4]},)"
                  R"("b":{"dtype":"I8","shape":[4],"data_offsets":[4,8]}})",
                  8);
    for (std::size_t bit = 0; bit < original.size() * 8; ++bit) {
        bytes_t file = original;
        file[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
        try {
            const auto st = notch::safetensors::parse(file);
            for (const auto& t : st.tensors()) CHECK(st.bytes(t.name).size() <= 8);
        } catch (const notch::error& e) {
            CHECK(static_cast<int>(e.code()) == static_cast<int>(notch::errc::corrupt));
        }
    }
}

TEST_CASE("safetensors: files that cannot be read") {
    using notch::errc;
    scratch_folder folder;
    const std::string missing = folder.file("missing");
    CHECK(contains(error_of(errc::io, [&] { (void)notch::safetensors::load(missing); }), missing));
    (void)error_of(errc::io, [&] { (void)notch::safetensors::load(folder.path.string()); });
    (void)error_of(errc::io, [&] { (void)notch::safetensors::load(""); });

    const std::string path = folder.file("file");
    write_bytes(path, {});
    (void)error_of(errc::corrupt, [&] { (void)notch::safetensors::load(path); });
    const bytes_t file = container(R"({"a":{"dtype":"I8","shape":[4],"data_offsets":[0,4]}})", 4);
    write_bytes(path, file);
    CHECK(notch::safetensors::load(path, file.size()).file_bytes() == static_cast<notch::index_t>(file.size()));
    CHECK(contains(error_of(errc::io, [&] { (void)notch::safetensors::load(path, file.size() - 1); }),
                   "more than the limit"));

    // A huge file without contents is refused before memory for it is taken.
    std::filesystem::resize_file(path, std::uint64_t{1} << 42);
    (void)error_of(errc::io, [&] { (void)notch::safetensors::load(path); });
    write_bytes(path, {});
    std::filesystem::resize_file(path, std::uint64_t{3} << 30);
    const std::uint64_t liar = 1'000'000'000;
    {
        std::fstream out(path, std::ios::binary | std::ios::in | std::ios::out);
        out.write(reinterpret_cast<const char*>(&liar), 8);
    }
    (void)error_of(errc::corrupt, [&] { (void)notch::safetensors::load(path); });
}

TEST_CASE("safetensors: metadata and tensors are found in whatever order a file has them") {
    const std::string_view header = R"({"__metadata__":{"z":"1","m":"2","a":"3","q":"4"},)"
                                    R"("z":{"dtype":"U8","shape":[1],"data_offsets":[3,4]},)"
                                    R"("m":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                    R"("a":{"dtype":"U8","shape":[1],"data_offsets":[2,3]},)"
                                    R"("q":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})";
    bytes_t file = container(header, 4);
    for (std::size_t i = 0; i < 4; ++i) file[8 + header.size() + i] = static_cast<std::byte>(i);
    const auto st = notch::safetensors::parse(file);
    const char* const names[] = {"a", "m", "q", "z"};
    const char* const texts[] = {"3", "2", "4", "1"};
    const std::uint8_t codes[] = {2, 0, 1, 3};
    REQUIRE(st.metadata().size() == 4);
    for (std::size_t i = 0; i < 4; ++i) {
        CHECK(st.metadata()[i].first == names[i]);
        CHECK(st.tensors()[i].name == names[i]);
        REQUIRE(st.find_metadata(names[i]));
        CHECK(*st.find_metadata(names[i]) == texts[i]);
        CHECK(st.tensor<std::uint8_t>(names[i])[0] == codes[i]);
    }
    CHECK(st.find_metadata("b") == nullptr);
}
