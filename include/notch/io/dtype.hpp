// SPDX-License-Identifier: Apache-2.0
//
// notch/io/dtype.hpp: the element types of saved tensors, by their safetensors names.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <notch/core/config.hpp>
#include <notch/core/error.hpp>
#include <notch/core/types.hpp>

NOTCH_KEYED_BEGIN

/// How the elements of a saved tensor are stored. f16 and bf16 are read as std::uint16_t,
/// bool_ as raw bytes.
enum class dtype : std::uint8_t { f32, f16, bf16, i8, u8, i16, i32, i64, f64, u16, u32, u64, bool_ };

/// What a file says about one tensor. begin and end are byte offsets within the data.
struct tensor_info {
    std::string name;
    dtype type = dtype::u8;
    std::vector<index_t> shape;
    index_t begin = 0, end = 0;
};

namespace detail {

struct dtype_row {
    const char* name;
    index_t size;
};
inline constexpr dtype_row dtype_table[] = {{"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I8", 1},  {"U8", 1},
                                            {"I16", 2}, {"I32", 4}, {"I64", 8},  {"F64", 8}, {"U16", 2},
                                            {"U32", 4}, {"U64", 8}, {"BOOL", 1}};
inline constexpr int dtype_count = static_cast<int>(sizeof dtype_table / sizeof dtype_table[0]);

/// The dtype of a C++ type; empty for types that have none.
template <class T> inline constexpr std::optional<dtype> dtype_of_v{};
template <> inline constexpr std::optional<dtype> dtype_of_v<float>{dtype::f32};
template <> inline constexpr std::optional<dtype> dtype_of_v<double>{dtype::f64};
template <> inline constexpr std::optional<dtype> dtype_of_v<std::int8_t>{dtype::i8};
template <> inline constexpr std::optional<dtype> dtype_of_v<std::uint8_t>{dtype::u8};
template <> inline constexpr std::optional<dtype> dtype_of_v<std::int16_t>{dtype::i16};
template <> inline constexpr std::optional<dtype> dtype_of_v<std::uint16_t>{dtype::u16};
template <> inline constexpr std::optional<dtype> dtype_of_v<std::int32_t>{dtype::i32};
template <> inline constexpr std::optional<dtype> dtype_of_v<std::uint32_t>{dtype::u32};
template <> inline constexpr std::optional<dtype> dtype_of_v<std::int64_t>{dtype::i64};
template <> inline constexpr std::optional<dtype> dtype_of_v<std::uint64_t>{dtype::u64};

} // namespace detail

/// The name in the file, "F32"; "unknown" for a value outside the enumeration.
[[nodiscard]] NOTCH_INLINE constexpr const char* to_string(dtype type) noexcept {
    return static_cast<int>(type) < detail::dtype_count ? detail::dtype_table[static_cast<int>(type)].name : "unknown";
}

/// Bytes of one element; 0 for a value outside the enumeration.
[[nodiscard]] NOTCH_INLINE constexpr index_t size_of(dtype type) noexcept {
    return static_cast<int>(type) < detail::dtype_count ? detail::dtype_table[static_cast<int>(type)].size : 0;
}

NOTCH_KEYED_END

NOTCH_KEYED_BEGIN

/// The dtype of a safetensors name; empty if notch does not know it.
[[nodiscard]] inline std::optional<dtype> dtype_from_name(std::string_view name) noexcept {
    for (int i = 0; i < detail::dtype_count; ++i)
        if (name == detail::dtype_table[i].name) return static_cast<dtype>(i);
    return std::nullopt;
}

namespace detail {

/// "[32, 3, 3]"
inline std::string shape_text(const std::vector<index_t>& shape) {
    std::string text = "[";
    for (std::size_t d = 0; d < shape.size(); ++d) text += cat(d ? ", " : "", shape[d]);
    return text + "]";
}

/// A tensor is asked for by its dtype and shape: -1 in expected matches any extent, a null one any shape. where() names
/// it in messages.
template <class Where>
void check_tensor(dtype has, const std::vector<index_t>& shape, dtype type, const std::vector<index_t>* expected,
                  Where&& where) {
    if (has != type)
        fail(errc::invalid_argument, cat(where(), " has dtype ", to_string(has), ", expected ", to_string(type)));
    if (!expected) return;
    bool same = expected->size() == shape.size();
    for (std::size_t d = 0; same && d < shape.size(); ++d) same = (*expected)[d] == -1 || (*expected)[d] == shape[d];
    if (!same)
        fail(errc::shape_mismatch,
             cat(where(), " has shape ", shape_text(shape), ", expected ", shape_text(*expected)));
}

} // namespace detail
NOTCH_KEYED_END
