// SPDX-License-Identifier: Apache-2.0
//
// A file is written whole or not at all.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>

#include <notch/core/error.hpp>

namespace mnist {

/// Writes beside the file and renames, so that what stood there stays if writing fails: a notch::error (errc::io).
inline void write_file(const std::string& path, std::string_view content) {
    const std::string temporary = path + ".tmp";
    std::ofstream out(temporary, std::ios::binary);
    const bool opened = out.is_open();
    out.write(content.data(), static_cast<std::streamsize>(content.size()));
    out.close();
    std::error_code status;
    if (out) std::filesystem::rename(temporary, path, status);
    if (!out || status) {
        std::error_code ignored;
        if (opened) std::filesystem::remove(temporary, ignored);
        notch::fail(notch::errc::io, path + ": cannot be written");
    }
}

} // namespace mnist
