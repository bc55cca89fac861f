// SPDX-License-Identifier: Apache-2.0
//
// notch/core/workspace.hpp: scratch memory that the caller owns. An operation says how much it
// needs (<operation>_workspace_size), and takes it from the span in its context: no allocation in
// a hot call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

[[nodiscard]] constexpr index_t round_up(index_t n, index_t multiple) noexcept {
    return (n + multiple - 1) / multiple * multiple;
}

/// Bytes to ask for, so that a 64-byte aligned block of n bytes fits wherever the span starts.
[[nodiscard]] constexpr index_t workspace_bytes(index_t n) noexcept { return n == 0 ? 0 : round_up(n, 64) + 64; }

/// Checks the size and returns the first 64-byte aligned byte. ask: the function that says how much is needed.
inline std::byte* workspace_begin(std::string_view where, std::string_view ask, std::span<std::byte> workspace,
                                  index_t need) {
    if (static_cast<index_t>(workspace.size()) < need)
        fail(errc::invalid_argument,
             cat(where, ": the workspace has ", workspace.size(), " bytes, ", need, " are needed; ask ", ask));
    const auto address = reinterpret_cast<std::uintptr_t>(workspace.data());
    return workspace.data() + ((64 - address % 64) % 64);
}

} // namespace detail
NOTCH_KEYED_END
