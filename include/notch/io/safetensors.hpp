// SPDX-License-Identifier: Apache-2.0
//
// notch/io/safetensors.hpp: reads the safetensors container, whoever wrote it.
//
//     byte 0          8                        8 + H                          end of file
//          | H: u64 LE | JSON header, H bytes    | data: the tensors, no gaps    |
//
//     header = {"__metadata__": {"key": "text", ...},
//               "name": {"dtype": "I8", "shape": [32, 9], "data_offsets": [0, 288]}, ...}
//
// Offsets count from the first byte of the data. The reader trusts nothing: every length is
// checked before it is used, and it never allocates more than a small multiple of the file's size.
// Messages name the file and the tensor. Needs nlohmann-json.
//
//     auto file = notch::safetensors::load("resnet.safetensors");
//     std::span<const float> w = file.tensor<float>("conv1.weight", {64, 3, -1, -1});
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/core/types.hpp>
#include <notch/io/detail/file.hpp>
#include <notch/io/detail/safetensors_header.hpp>
#include <notch/io/dtype.hpp>

static_assert(std::endian::native == std::endian::little,
              "notch/io: saved models are little-endian and are used without conversion; a "
              "big-endian host is not supported");

NOTCH_KEYED_BEGIN

/// The largest file that load() reads unless told otherwise: 4 GiB.
inline constexpr std::uint64_t default_max_file_bytes = std::uint64_t{1} << 32;

namespace detail {

/// A whole file in memory and what its header says.
struct safetensors_content {
    std::string label; ///< the path, for messages
    buffer<std::byte> file;
    index_t data_begin = 0;                                    ///< where in file the data starts
    std::vector<tensor_info> tensors;                          ///< by name
    std::vector<std::pair<std::string, std::string>> metadata; ///< by key
};

} // namespace detail
NOTCH_KEYED_END

NOTCH_KEYED_BEGIN
namespace detail {

inline safetensors_content parse_safetensors(buffer<std::byte> file, std::string label) {
    safetensors_content content;
    const header_extent extent = check_header_extent(file.span(), static_cast<std::uint64_t>(file.size()), label);
    safetensors_header header =
        parse_safetensors_header(std::string_view(reinterpret_cast<const char*>(file.data()) + 8, extent.header_bytes),
                                 extent.data_bytes, label);
    content.label = std::move(label);
    content.tensors = std::move(header.tensors);
    content.metadata = std::move(header.metadata);
    content.file = std::move(file);
    // Writers pad the header so that the data starts at a multiple of 8. For those that do not,
    // the data moves down over the end of the header, which has been read.
    const std::size_t begin = 8 + extent.header_bytes, aligned = begin / 8 * 8;
    if (aligned != begin && extent.data_bytes > 0)
        std::memmove(content.file.data() + aligned, content.file.data() + begin, extent.data_bytes);
    content.data_begin = static_cast<index_t>(aligned);
    return content;
}

inline safetensors_content load_safetensors(const std::string& path, std::uint64_t max_bytes) {
    return parse_safetensors(read_file(path, max_bytes, check_header_extent), path);
}

inline buffer<std::byte> copy_bytes(std::span<const std::byte> bytes) {
    buffer<std::byte> copy(static_cast<index_t>(bytes.size()));
    if (!bytes.empty()) std::memcpy(copy.data(), bytes.data(), bytes.size());
    return copy;
}

inline const tensor_info* find_tensor(const safetensors_content& c, std::string_view name) {
    const auto at = std::lower_bound(c.tensors.begin(), c.tensors.end(), name,
                                     [](const tensor_info& t, std::string_view n) { return t.name < n; });
    return at != c.tensors.end() && at->name == name ? &*at : nullptr;
}

inline const std::string* find_metadata(const safetensors_content& c, std::string_view key) {
    const auto at = std::lower_bound(c.metadata.begin(), c.metadata.end(), key,
                                     [](const auto& m, std::string_view k) { return m.first < k; });
    return at != c.metadata.end() && at->first == key ? &at->second : nullptr;
}

inline const tensor_info& get_tensor(const safetensors_content& c, std::string_view name) {
    const tensor_info* info = find_tensor(c, name);
    if (!info)
        fail(errc::invalid_argument,
             cat(c.label, ": no tensor ", name_text(name), " among its ", c.tensors.size(), " tensors"));
    return *info;
}

/// The bytes of a tensor whose dtype and shape are as expected; -1 in shape matches any extent,
/// a null shape any shape.
inline std::span<const std::byte> get_bytes(const safetensors_content& c, std::string_view name, dtype type,
                                            const std::vector<index_t>* shape) {
    const tensor_info& info = get_tensor(c, name);
    check_tensor(info.type, info.shape, type, shape, [&] { return cat(c.label, ": tensor ", name_text(name)); });
    return c.file.span().subspan(static_cast<std::size_t>(c.data_begin + info.begin),
                                 static_cast<std::size_t>(info.end - info.begin));
}

template <class T>
std::span<const T> get_elements(const safetensors_content& c, std::string_view name, dtype type,
                                const std::vector<index_t>* shape) {
    static_assert(dtype_of_v<T>.has_value(), "notch: tensor<T>: T must be an arithmetic type that has a dtype");
    if (size_of(type) != static_cast<index_t>(sizeof(T)))
        fail(errc::invalid_argument, cat(c.label, ": tensor ", name_text(name), " was asked for as ", to_string(type),
                                         " in elements of ", sizeof(T), " bytes"));
    const std::span<const std::byte> bytes = get_bytes(c, name, type, shape);
    if (bytes.empty()) return {};
    if (reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(T) != 0)
        fail(errc::unsupported,
             cat(c.label, ": tensor ", name_text(name), " starts at offset ", get_tensor(c, name).begin,
                 " of the data, not aligned for ", to_string(type), "; use copy<T>()"));
    return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
}

template <class T> buffer<T> copy_elements(const safetensors_content& c, std::string_view name) {
    static_assert(dtype_of_v<T>.has_value(), "notch: copy<T>: T must be an arithmetic type that has a dtype");
    const std::span<const std::byte> bytes = get_bytes(c, name, *dtype_of_v<T>, nullptr);
    buffer<T> copy(static_cast<index_t>(bytes.size() / sizeof(T)));
    if (!bytes.empty()) std::memcpy(copy.data(), bytes.data(), bytes.size());
    return copy;
}

} // namespace detail
NOTCH_KEYED_END

NOTCH_KEYED_BEGIN

/// A safetensors file in memory. Spans point into it and live as long as it does (moving it keeps
/// them valid).
class safetensors {
public:
    /// Reads a file. errc::io if it cannot be read or has more than max_bytes, errc::corrupt if it
    /// is damaged.
    [[nodiscard]] NOTCH_INLINE static safetensors load(const std::string& path,
                                                       std::uint64_t max_bytes = default_max_file_bytes) {
        return safetensors(detail::load_safetensors(path, max_bytes));
    }
    /// The same from memory, which is copied; label stands for the path in messages.
    [[nodiscard]] NOTCH_INLINE static safetensors parse(std::span<const std::byte> file,
                                                        std::string label = "safetensors") {
        return safetensors(detail::parse_safetensors(detail::copy_bytes(file), std::move(label)));
    }

    /// The elements of a tensor. An error that names the tensor if there is none of this name or
    /// its dtype is not the one of T.
    template <class T> [[nodiscard]] NOTCH_INLINE std::span<const T> tensor(std::string_view name) const {
        return detail::get_elements<T>(content_, name, detail::dtype_of_v<T>.value_or(dtype::u8), nullptr);
    }
    /// The same, and the shape must be this one; -1 matches any extent.
    template <class T>
    [[nodiscard]] NOTCH_INLINE std::span<const T> tensor(std::string_view name,
                                                         const std::vector<index_t>& shape) const {
        return detail::get_elements<T>(content_, name, detail::dtype_of_v<T>.value_or(dtype::u8), &shape);
    }
    /// The same for a dtype that C++20 has no type for: tensor<std::uint16_t>(name, shape,
    /// dtype::bf16).
    template <class T>
    [[nodiscard]] NOTCH_INLINE std::span<const T> tensor(std::string_view name, const std::vector<index_t>& shape,
                                                         dtype type) const {
        return detail::get_elements<T>(content_, name, type, &shape);
    }
    /// A copy, which also works for tensors that a foreign writer left unaligned.
    template <class T> [[nodiscard]] NOTCH_INLINE buffer<T> copy(std::string_view name) const {
        return detail::copy_elements<T>(content_, name);
    }
    /// The raw bytes of a tensor of any dtype.
    [[nodiscard]] NOTCH_INLINE std::span<const std::byte> bytes(std::string_view name) const {
        return detail::get_bytes(content_, name, info(name).type, nullptr);
    }

    /// dtype, shape and offsets of a tensor; an error if there is none of this name.
    [[nodiscard]] NOTCH_INLINE const tensor_info& info(std::string_view name) const {
        return detail::get_tensor(content_, name);
    }
    [[nodiscard]] NOTCH_INLINE bool contains(std::string_view name) const {
        return detail::find_tensor(content_, name) != nullptr;
    }
    /// All tensors, by name.
    [[nodiscard]] NOTCH_INLINE const std::vector<tensor_info>& tensors() const noexcept { return content_.tensors; }
    /// All pairs of __metadata__, by key.
    [[nodiscard]] NOTCH_INLINE const std::vector<std::pair<std::string, std::string>>& metadata() const noexcept {
        return content_.metadata;
    }
    /// The text of a metadata key; null if there is none.
    [[nodiscard]] NOTCH_INLINE const std::string* find_metadata(std::string_view key) const {
        return detail::find_metadata(content_, key);
    }
    /// The path or label, as messages name it.
    [[nodiscard]] NOTCH_INLINE const std::string& label() const noexcept { return content_.label; }
    /// Bytes of the whole file.
    [[nodiscard]] NOTCH_INLINE index_t file_bytes() const noexcept { return content_.file.size(); }

protected:
    NOTCH_INLINE explicit safetensors(detail::safetensors_content&& content) : content_(std::move(content)) {}

private:
    detail::safetensors_content content_;
};

NOTCH_KEYED_END
