// SPDX-License-Identifier: Apache-2.0
//
// int8 arrays in NumPy's format: "\x93NUMPY", version 1.0, the length of a header as 16 bits, the header (a Python
// dictionary as text), the elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <notch/core/error.hpp>

namespace mlperf {

inline std::string read_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in) notch::fail(notch::errc::io, path + ": cannot be read");
    return {std::istreambuf_iterator<char>(in), {}};
}

/// The elements of a file of int8, in C order, of any shape.
inline std::vector<std::int8_t> read_npy(const std::string& path) {
    const std::string file = read_file(path);
    const auto refuse = [&](const char* what) { notch::fail(notch::errc::corrupt, path + ": " + what); };
    if (file.size() < 10 || file.compare(0, 8, std::string("\x93NUMPY\x01\x00", 8)) != 0)
        refuse("not an array of NumPy, version 1");
    const std::size_t length = static_cast<unsigned char>(file[8]) + 256u * static_cast<unsigned char>(file[9]);
    if (length > file.size() - 10) refuse("truncated");
    const std::string header = file.substr(10, length);
    if (header.find("'|i1'") == std::string::npos || header.find("'fortran_order': False") == std::string::npos)
        refuse("not int8 in C order");
    return {file.begin() + 10 + static_cast<std::ptrdiff_t>(length), file.end()};
}

} // namespace mlperf
