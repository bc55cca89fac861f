// SPDX-License-Identifier: Apache-2.0
//
// What the tests of io share: a scratch folder, files made by hand, and the expected error.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <notch/core/error.hpp>

#include "../catch.hpp"

namespace io_test {

using bytes_t = std::vector<std::byte>;

/// A folder that is gone at the end of the test.
struct scratch_folder {
    std::filesystem::path path;
    scratch_folder() {
        std::random_device device;
        path = std::filesystem::temp_directory_path() / ("notch_io_" + std::to_string(device()));
        std::filesystem::create_directories(path);
    }
    ~scratch_folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
    scratch_folder(const scratch_folder&) = delete;
    scratch_folder& operator=(const scratch_folder&) = delete;
    [[nodiscard]] std::string file(const std::string& name) const { return (path / name).string(); }
    [[nodiscard]] std::size_t count() const {
        return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path), {}));
    }
};

inline bytes_t read_bytes(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(in)), {});
    bytes_t bytes(text.size());
    if (!text.empty()) std::memcpy(bytes.data(), text.data(), text.size());
    return bytes;
}

inline void write_bytes(const std::string& path, std::span<const std::byte> bytes) {
    std::ofstream out(path, std::ios::binary);
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

/// A safetensors file of this header and so many bytes of data, 0, 1, 2...
inline bytes_t container(std::string_view header, std::size_t data_bytes) {
    bytes_t file(8 + header.size() + data_bytes);
    const std::uint64_t length = header.size();
    std::memcpy(file.data(), &length, 8);
    std::memcpy(file.data() + 8, header.data(), header.size());
    for (std::size_t i = 0; i < data_bytes; ++i) file[8 + header.size() + i] = static_cast<std::byte>(i);
    return file;
}

/// Runs f, which must fail with this code, and returns the message.
template <class F> std::string error_of(notch::errc code, F&& f) {
    try {
        f();
    } catch (const notch::error& e) {
        CHECK(static_cast<int>(e.code()) == static_cast<int>(code));
        return e.what();
    }
    FAIL("no error");
    return {};
}

inline bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

} // namespace io_test
