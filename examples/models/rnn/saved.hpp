// SPDX-License-Identifier: Apache-2.0
//
// The networks of this folder run from what a model file keeps of them, and their size is that of its tensors: weights
// of 4 and 2 bits are packed there. In memory a frozen layer has them in bytes.
#pragma once

#include <cstdint>
#include <string_view>

#include <notch/io/layer_file.hpp>
#include <notch/io/recurrent_file.hpp>

namespace rnn {

/// Of the tensors whose names do not begin with but.
inline std::int64_t tensor_bytes(const notch::model_file& file, std::string_view but = "-") {
    std::int64_t bytes = 0;
    for (const notch::tensor_info& t : file.tensors())
        if (!std::string_view(t.name).starts_with(but)) bytes += t.end - t.begin;
    return bytes;
}

} // namespace rnn
