// SPDX-License-Identifier: Apache-2.0
//
// The demo's reader of digits: what it accepts, and what it refuses before anything is read by it.
#include "../catch.hpp"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "../../examples/mnist/idx.hpp"

namespace {

/// A folder of its own that is gone afterwards.
struct folder {
    std::filesystem::path path = std::filesystem::temp_directory_path() / "notch_test_idx";
    folder() {
        std::filesystem::remove_all(path);
        std::filesystem::create_directories(path);
    }
    ~folder() { std::filesystem::remove_all(path); }
    folder(const folder&) = delete;
    folder& operator=(const folder&) = delete;

    /// The two files of a part, not compressed, which zlib reads as well. Pixel i is i % 251, label i is i % 10.
    void write(const std::string& part, std::uint32_t count, std::uint32_t height, std::uint32_t width,
               std::size_t missing = 0) const {
        std::vector<std::uint8_t> images = numbers({0x803, count, height, width}), labels = numbers({0x801, count});
        for (std::size_t i = 0; i < std::size_t{count} * height * width; ++i)
            images.push_back(static_cast<std::uint8_t>(i % 251));
        for (std::size_t i = 0; i < count; ++i) labels.push_back(static_cast<std::uint8_t>(i % 10));
        images.resize(images.size() - missing);
        put(part + "-images-idx3-ubyte.gz", images);
        put(part + "-labels-idx1-ubyte.gz", labels);
    }

private:
    static std::vector<std::uint8_t> numbers(const std::vector<std::uint32_t>& values) {
        std::vector<std::uint8_t> bytes;
        for (std::uint32_t v : values)
            for (int shift : {24, 16, 8, 0}) bytes.push_back(static_cast<std::uint8_t>(v >> shift));
        return bytes;
    }
    void put(const std::string& name, const std::vector<std::uint8_t>& bytes) const {
        std::ofstream f(path / name, std::ios::binary);
        f.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    }
};

} // namespace

TEST_CASE("digits are read image by image") {
    const folder f;
    f.write("test", 100, 28, 28);
    const mnist::dataset d = mnist::read_digits(f.path.string(), "test");
    CHECK(d.count == 100);
    CHECK(d.image(1) - d.image(0) == 784);
    CHECK(d.image(1)[0] == 784 % 251);
    CHECK(d.labels[13] == 3);
}

TEST_CASE("digits of another size, or too few, are refused by name") {
    const folder f;
    const auto refused = [&](const char* text) {
        CHECK_THROWS_WITH(mnist::read_digits(f.path.string(), "test"), contains_text(text));
    };
    refused("cannot be opened");
    f.write("test", 200, 14, 14);
    refused("14 x 14 pixels");
    f.write("test", 200, 28, 27);
    refused("28 x 27 pixels");
    f.write("test", 99, 28, 28);
    refused("99 images");
    f.write("test", 100, 28, 28, 1);
    refused("truncated");
    f.write("test", 0, 28, 28);
    refused("number of images is 0");
}
