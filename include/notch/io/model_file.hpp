// SPDX-License-Identifier: Apache-2.0
//
// notch/io/model_file.hpp: the saved model. A safetensors file (see safetensors.hpp) that any
// safetensors reader opens, with a version and a checksum, so that no damaged bit goes unnoticed.
//
//     notch::model_writer out("small_cnn");
//     out.add<std::int8_t>("conv.weight", {32, 9}, codes);
//     out.meta("input", "28x28");
//     out.save("digits.notch");
//
//     auto model = notch::model_file::load("digits.notch");
//     std::span<const std::int8_t> codes = model.tensor<std::int8_t>("conv.weight", {32, -1});
//
// Format version 1. The header starts with these bytes, so the checksum has a fixed place and is
// verified before anything else is believed:
//
//     {"__metadata__":{"crc32":"89abcdef","notch":"1","arch":"small_cnn", more metadata by key}
//
// crc32 (the polynomial of zlib and gzip, eight lower-case hex digits) covers every byte of the
// file, its own digits counted as '0'. Tensors are ordered by element size, largest first, then by
// name, without gaps, and spaces end the header at a multiple of 8: every element is aligned. The
// same content always gives the same bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/io/detail/model_format.hpp>
#include <notch/io/safetensors.hpp>

NOTCH_KEYED_BEGIN

/// Collects tensors and saves them. Everything given is copied.
class model_writer {
public:
    /// architecture names the code that knows what the tensors mean.
    NOTCH_INLINE explicit model_writer(std::string architecture) { content_.architecture = std::move(architecture); }

    /// Adds a tensor: add<float>("scale", {32}, scales). The name must be new.
    template <class T>
        requires(detail::dtype_of_v<T>.has_value())
    NOTCH_INLINE model_writer& add(std::string_view name, const std::vector<index_t>& shape,
                                   std::type_identity_t<std::span<const T>> elements) {
        detail::add_tensor(content_, name, *detail::dtype_of_v<T>, shape, std::as_bytes(elements));
        return *this;
    }
    /// The same from raw bytes, for any dtype.
    NOTCH_INLINE model_writer& add(std::string_view name, dtype type, const std::vector<index_t>& shape,
                                   std::span<const std::byte> bytes) {
        detail::add_tensor(content_, name, type, shape, bytes);
        return *this;
    }
    /// Whether a tensor of this name has been added.
    [[nodiscard]] NOTCH_INLINE bool contains(std::string_view name) const { return detail::has_tensor(content_, name); }
    /// Adds a line of text. The key must be new, and not crc32, notch or arch.
    NOTCH_INLINE model_writer& meta(std::string_view key, std::string_view value) {
        detail::add_metadata(content_, key, value);
        return *this;
    }

    /// The file as save() writes it.
    [[nodiscard]] NOTCH_INLINE buffer<std::byte> to_bytes() const { return detail::write_model(content_); }
    /// Writes a new file beside path and renames it to path. On an error (errc::io) what was at path
    /// stays.
    /// Returns the bytes written.
    NOTCH_INLINE index_t save(const std::string& path) const {
        const buffer<std::byte> file = to_bytes();
        detail::write_file(path, file);
        return file.size();
    }

private:
    detail::model_content content_;
};

/// A saved model whose checksum and version have been verified. All of safetensors' reading
/// functions: tensor<T>, copy<T>, bytes, info, contains, tensors.
class model_file : public safetensors {
public:
    /// Reads a file. errc::io if it cannot be read, errc::corrupt if a single bit of it is damaged,
    /// errc::unsupported if a later version of notch wrote it in another format.
    [[nodiscard]] NOTCH_INLINE static model_file load(const std::string& path,
                                                      std::uint64_t max_bytes = default_max_file_bytes) {
        return model_file(detail::load_model(path, max_bytes));
    }
    /// The same from memory, which is copied; label stands for the path in messages.
    [[nodiscard]] NOTCH_INLINE static model_file parse(std::span<const std::byte> file, std::string label = "model") {
        return model_file(detail::parse_model(detail::copy_bytes(file), std::move(label)));
    }

    [[nodiscard]] NOTCH_INLINE const std::string& architecture() const {
        const std::string* value = find_metadata("arch");
        if (!value) fail(errc::invalid_argument, "model_file.architecture: the file was moved from");
        return *value;
    }
    /// The text of a metadata key; an error if there is none.
    [[nodiscard]] NOTCH_INLINE const std::string& meta(std::string_view key) const {
        const std::string* value = find_metadata(key);
        if (!value) fail(errc::invalid_argument, detail::cat(label(), ": no metadata ", detail::name_text(key)));
        return *value;
    }

private:
    NOTCH_INLINE explicit model_file(detail::safetensors_content&& content) : safetensors(std::move(content)) {}
};

NOTCH_KEYED_END
