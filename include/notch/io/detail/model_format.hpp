// SPDX-License-Identifier: Apache-2.0
//
// notch/io/detail/model_format.hpp: the bytes of a saved model, as model_file.hpp describes them.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/io/safetensors.hpp>

NOTCH_KEYED_BEGIN

/// The format that this version writes, and the only one so far.
inline constexpr std::string_view model_format = "1";

namespace detail {

struct saved_tensor {
    std::string name;
    dtype type = dtype::u8;
    std::vector<index_t> shape;
    buffer<std::byte> bytes;
};

struct model_content {
    std::string architecture;
    std::vector<saved_tensor> tensors;                         // as added
    std::vector<std::pair<std::string, std::string>> metadata; // as added
};

} // namespace detail
NOTCH_KEYED_END

NOTCH_KEYED_BEGIN
namespace detail {

inline constexpr std::string_view checksum_prefix = R"({"__metadata__":{"crc32":")";
inline constexpr std::size_t checksum_at = 8 + checksum_prefix.size(); // of its first digit
inline constexpr std::size_t checksum_digits = 8;

/// CRC-32 as of zlib; crc is 0 at first, then the result so far.
[[nodiscard]] inline std::uint32_t crc32(std::uint32_t crc, std::span<const std::byte> bytes) noexcept {
    static constexpr auto table = [] {
        std::array<std::uint32_t, 256> t{};
        for (std::uint32_t i = 0; i < 256; ++i) {
            t[i] = i;
            for (int bit = 0; bit < 8; ++bit) t[i] = t[i] >> 1 ^ (t[i] & 1 ? 0xedb88320u : 0u);
        }
        return t;
    }();
    crc = ~crc;
    for (std::byte b : bytes) crc = crc >> 8 ^ table[(crc ^ static_cast<std::uint32_t>(b)) & 0xff];
    return ~crc;
}

/// The checksum that belongs into a file, whatever its digits are now.
[[nodiscard]] inline std::array<char, checksum_digits> model_checksum(std::span<const std::byte> file) {
    static constexpr std::array<std::byte, checksum_digits> zeros = [] {
        std::array<std::byte, checksum_digits> z{};
        z.fill(std::byte{'0'});
        return z;
    }();
    std::uint32_t crc = crc32(0, file.first(checksum_at));
    crc = crc32(crc, zeros);
    crc = crc32(crc, file.subspan(checksum_at + checksum_digits));
    std::array<char, checksum_digits> text{};
    for (std::size_t i = 0; i < checksum_digits; ++i) text[i] = "0123456789abcdef"[crc >> (28 - 4 * i) & 15];
    return text;
}

/// A JSON string. Text that is not UTF-8 is refused: it could not be read back.
inline std::string json_text(std::string_view what, std::string_view text) {
    using json = json_value;
    std::string dumped = json(std::string(text)).dump(-1, ' ', false, json::error_handler_t::ignore);
    const json again = json::parse(dumped, nullptr, false);
    if (!again.is_string() || again.get_ref<const std::string&>() != text)
        fail(errc::invalid_argument, cat("model_writer: ", what, " ", name_text(text), " is not valid UTF-8"));
    return dumped;
}

inline bool has_tensor(const model_content& model, std::string_view name) {
    for (const saved_tensor& t : model.tensors)
        if (t.name == name) return true;
    return false;
}

inline void add_tensor(model_content& model, std::string_view name, dtype type, const std::vector<index_t>& shape,
                       std::span<const std::byte> bytes) {
    if (name.empty() || name == "__metadata__")
        fail(errc::invalid_argument, cat("model_writer: a tensor cannot be called ", name_text(name)));
    if (static_cast<int>(type) >= dtype_count)
        fail(errc::invalid_argument,
             cat("model_writer: ", name_text(name), " has the unknown dtype ", static_cast<int>(type)));
    (void)json_text("tensor name", name);
    if (has_tensor(model, name))
        fail(errc::invalid_argument, cat("model_writer: two tensors are called ", name_text(name)));
    if (shape.size() > max_rank)
        fail(errc::invalid_argument, cat("model_writer: tensor ", name_text(name), " has ", shape.size(),
                                         " dimensions, at most ", max_rank, " are allowed"));
    index_t expected = size_of(type);
    for (index_t extent : shape) {
        check_extent("model_writer", cat("an extent of tensor ", name_text(name)), extent);
        expected = checked_product("model_writer", expected, extent);
    }
    if (static_cast<index_t>(bytes.size()) != expected)
        fail(errc::shape_mismatch,
             cat("model_writer: tensor ", name_text(name), " of shape ", shape_text(shape), " and dtype ",
                 to_string(type), " needs ", expected, " bytes, ", bytes.size(), " were given"));
    model.tensors.push_back({std::string(name), type, shape, copy_bytes(bytes)});
}

inline void add_metadata(model_content& model, std::string_view key, std::string_view value) {
    if (key.empty() || key == "crc32" || key == "notch" || key == "arch")
        fail(errc::invalid_argument, cat("model_writer: metadata cannot be called ", name_text(key)));
    (void)json_text("metadata key", key);
    (void)json_text("metadata value", value);
    for (const auto& m : model.metadata)
        if (m.first == key) fail(errc::invalid_argument, cat("model_writer: two metadata are called ", name_text(key)));
    model.metadata.emplace_back(key, value);
}

/// The bytes of the file.
inline buffer<std::byte> write_model(const model_content& model) {
    std::vector<const saved_tensor*> order;
    for (const saved_tensor& t : model.tensors) order.push_back(&t);
    std::sort(order.begin(), order.end(), [](const saved_tensor* a, const saved_tensor* b) {
        const index_t x = size_of(a->type), y = size_of(b->type);
        return x != y ? x > y : a->name < b->name;
    });
    auto metadata = model.metadata;
    std::sort(metadata.begin(), metadata.end());

    std::string header(checksum_prefix);
    header += cat(std::string(checksum_digits, '0'), R"(","notch":")", model_format, R"(","arch":)",
                  json_text("architecture", model.architecture));
    for (const auto& m : metadata)
        header += cat(",", json_text("metadata key", m.first), ":", json_text("metadata value", m.second));
    header += "}";
    index_t offset = 0;
    for (const saved_tensor* t : order) {
        header += cat(",", json_text("tensor name", t->name), R"(:{"dtype":")", to_string(t->type), R"(","shape":[)");
        for (std::size_t d = 0; d < t->shape.size(); ++d) header += cat(d ? "," : "", t->shape[d]);
        header += cat(R"(],"data_offsets":[)", offset, ",", offset + t->bytes.size(), "]}");
        if (__builtin_add_overflow(offset, t->bytes.size(), &offset))
            fail(errc::overflow, "model_writer: the tensors overflow the address space");
    }
    header += "}";
    header.append((8 - header.size() % 8) % 8, ' ');
    if (header.size() > max_header_bytes)
        fail(errc::overflow,
             cat("model_writer: the header has ", header.size(), " bytes, the format allows ", max_header_bytes));

    buffer<std::byte> file(8 + static_cast<index_t>(header.size()) + offset);
    const std::uint64_t length = header.size();
    std::memcpy(file.data(), &length, 8);
    std::memcpy(file.data() + 8, header.data(), header.size());
    std::byte* out = file.data() + 8 + header.size();
    for (const saved_tensor* t : order) {
        if (t->bytes.empty()) continue;
        std::memcpy(out, t->bytes.data(), static_cast<std::size_t>(t->bytes.size()));
        out += t->bytes.size();
    }
    std::memcpy(file.data() + checksum_at, model_checksum(file.span()).data(), checksum_digits);
    return file;
}

inline safetensors_content parse_model(buffer<std::byte> file, std::string label) {
    (void)check_header_extent(file.span(), static_cast<std::uint64_t>(file.size()), label);
    const std::span<const std::byte> bytes = file.span();
    if (bytes.size() < checksum_at + checksum_digits ||
        std::memcmp(bytes.data() + 8, checksum_prefix.data(), checksum_prefix.size()) != 0)
        fail(errc::corrupt, cat(label, ": not a saved model of notch, or its first bytes are damaged"));
    const auto found = model_checksum(bytes);
    if (std::memcmp(bytes.data() + checksum_at, found.data(), checksum_digits) != 0)
        fail(errc::corrupt,
             cat(label, ": damaged: its bytes have the checksum ", std::string_view(found.data(), found.size()),
                 ", the file says ",
                 name_text({reinterpret_cast<const char*>(bytes.data()) + checksum_at, checksum_digits})));
    safetensors_content content = parse_safetensors(std::move(file), std::move(label));
    const std::string* format = find_metadata(content, "notch");
    if (!format) fail(errc::corrupt, cat(content.label, ": has no format version"));
    if (*format != model_format)
        fail(errc::unsupported, cat(content.label, ": has format version ", name_text(*format),
                                    ", this version of notch reads ", model_format));
    if (!find_metadata(content, "arch")) fail(errc::corrupt, cat(content.label, ": names no architecture"));
    return content;
}

inline safetensors_content load_model(const std::string& path, std::uint64_t max_bytes) {
    return parse_model(read_file(path, max_bytes, check_header_extent), path);
}

} // namespace detail
NOTCH_KEYED_END
