// SPDX-License-Identifier: Apache-2.0
//
// notch/io/npy.hpp: one array in NumPy's file format, in and out.
//
//     "\x93NUMPY"  major  minor  H (16 bits LE; 32 from version 2 on)  header, H bytes  elements
//
//     header = {'descr': '<f4', 'fortran_order': False, 'shape': (32, 9), }, padded with spaces, ended by a line feed
//
// Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html, versions 1 to 3. Read are arrays
// of booleans, integers and floats, little-endian, in C order; everything else (Fortran order, big-endian, strings,
// structures, pickled objects) is errc::unsupported, and a file that breaks the format errc::corrupt. Limits: a header
// of 65,535 bytes, 64 dimensions. Needs no package.
//
//     auto array = notch::npy::load("weights.npy");
//     std::span<const float> w = array.values<float>({64, 3, -1, -1});
//     notch::npy::of<std::int8_t>(codes, {64, 27}).save("codes.npy");
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/core/types.hpp>
#include <notch/io/detail/file.hpp>
#include <notch/io/dtype.hpp>

static_assert(std::endian::native == std::endian::little,
              "notch/io: arrays are little-endian and are used without conversion; a big-endian host is not supported");

NOTCH_KEYED_BEGIN

/// An array and its shape, in memory that it owns. Not thread-safe to modify; reading from several threads is.
class npy {
public:
    /// The largest file that load() reads unless told otherwise: 4 GiB.
    static constexpr std::uint64_t default_max_bytes = std::uint64_t{1} << 32;

    /// A copy of values in this shape, whose product must be their number. T has a dtype (dtype.hpp).
    template <class T> [[nodiscard]] static npy of(std::span<const T> values, std::vector<index_t> shape) {
        static_assert(detail::dtype_of_v<T>.has_value(),
                      "notch: npy::of<T>: T must be an arithmetic type with a dtype");
        return npy(std::as_bytes(values), *detail::dtype_of_v<T>, std::move(shape));
    }
    /// The same for dtypes that C++20 has no type for: f16 (bits as std::uint16_t) and bool_ (bytes). NumPy has no
    /// bf16.
    template <class T> [[nodiscard]] static npy of(std::span<const T> values, std::vector<index_t> shape, dtype type) {
        if (size_of(type) != static_cast<index_t>(sizeof(T)))
            fail(errc::invalid_argument,
                 detail::cat("npy: elements of ", sizeof(T), " bytes given as ", to_string(type)));
        return npy(std::as_bytes(values), type, std::move(shape));
    }
    /// Reads a file. errc::io if it cannot be read or has more than max_bytes; else as parse.
    [[nodiscard]] static npy load(const std::string& path, std::uint64_t max_bytes = default_max_bytes) {
        return parse(detail::read_file(path, max_bytes, [](auto&&...) {}).span(), path);
    }
    /// Reads the bytes of a file; label stands for its path in messages.
    [[nodiscard]] static npy parse(std::span<const std::byte> file, std::string label = "npy");

    /// The elements; an error if T is not their type.
    template <class T> [[nodiscard]] std::span<const T> values() const { return get<T>(own_dtype<T>(), nullptr); }
    /// The same, and the shape must be this one; -1 matches any extent.
    template <class T> [[nodiscard]] std::span<const T> values(const std::vector<index_t>& expected) const {
        return get<T>(own_dtype<T>(), &expected);
    }
    /// The same for a dtype that C++20 has no type for: values<std::uint16_t>(shape, dtype::f16).
    template <class T> [[nodiscard]] std::span<const T> values(const std::vector<index_t>& expected, dtype type) const {
        if (size_of(type) != static_cast<index_t>(sizeof(T)))
            fail(errc::invalid_argument,
                 detail::cat(label_, ": was asked for as ", to_string(type), " in elements of ", sizeof(T), " bytes"));
        return get<T>(type, &expected);
    }
    /// The raw bytes, of any dtype.
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return data_.span(); }
    [[nodiscard]] dtype type() const noexcept { return type_; }
    [[nodiscard]] const std::vector<index_t>& shape() const noexcept { return shape_; }
    /// The path or label, as messages name it.
    [[nodiscard]] const std::string& label() const noexcept { return label_; }

    /// The bytes of a file of version 1, whose elements start at a multiple of 64.
    [[nodiscard]] buffer<std::byte> to_bytes() const;
    /// Writes a new file beside path and renames it to path. On an error (errc::io) what was at path stays.
    void save(const std::string& path) const { detail::write_file(path, to_bytes().span()); }

private:
    npy(std::span<const std::byte> data, dtype type, std::vector<index_t> shape, std::string label = "npy",
        errc code = errc::invalid_argument)
        : label_(std::move(label)), type_(type), shape_(std::move(shape)) {
        if (type_code(type).empty()) fail(errc::unsupported, detail::cat(label_, ": NumPy has no ", to_string(type)));
        if (shape_.size() > max_rank) fail(code, detail::cat(label_, ": has more than 64 dimensions"));
        index_t size = size_of(type);
        bool overflow = false, empty = false;
        for (const index_t extent : shape_) {
            if (extent < 0) fail(code, detail::cat(label_, ": has the shape ", detail::shape_text(shape_)));
            empty = empty || extent == 0;
            overflow = overflow || __builtin_mul_overflow(size, extent, &size);
        }
        if (empty) size = 0;
        if ((overflow && !empty) || static_cast<std::uint64_t>(size) != data.size())
            fail(code,
                 detail::cat(label_, ": ", data.size(), " bytes are not an array of shape ", detail::shape_text(shape_),
                             " and dtype ", to_string(type), code == errc::corrupt ? "; truncated?" : ""));
        data_ = buffer<std::byte>(size);
        if (size > 0) std::memcpy(data_.data(), data.data(), data.size());
    }

    template <class T> static dtype own_dtype() {
        static_assert(detail::dtype_of_v<T>.has_value(), "notch: values<T>: T must be an arithmetic type with a dtype");
        return *detail::dtype_of_v<T>;
    }
    template <class T> [[nodiscard]] std::span<const T> get(dtype type, const std::vector<index_t>* expected) const {
        detail::check_tensor(type_, shape_, type, expected, [&] { return label_; });
        return {reinterpret_cast<const T*>(data_.data()), static_cast<std::size_t>(data_.size()) / sizeof(T)};
    }

    struct type_row {
        dtype type;
        std::string_view code; ///< kind and bytes of an element
    };
    static constexpr type_row types[] = {{dtype::f16, "f2"}, {dtype::f32, "f4"}, {dtype::f64, "f8"},
                                         {dtype::i8, "i1"},  {dtype::i16, "i2"}, {dtype::i32, "i4"},
                                         {dtype::i64, "i8"}, {dtype::u8, "u1"},  {dtype::u16, "u2"},
                                         {dtype::u32, "u4"}, {dtype::u64, "u8"}, {dtype::bool_, "b1"}};
    static constexpr std::string_view type_code(dtype type) noexcept {
        for (const type_row& row : types)
            if (row.type == type) return row.code;
        return {};
    }

    class header_reader;
    static constexpr std::size_t max_rank = 64, max_header = 65535;
    static constexpr std::string_view magic{"\x93NUMPY", 6};

    std::string label_;
    dtype type_ = dtype::u8;
    std::vector<index_t> shape_;
    buffer<std::byte> data_;
};

/// The header: a literal of a Python dictionary with three keys, in any order, each once.
class npy::header_reader {
public:
    header_reader(std::string_view text, const std::string& label) : rest_(text), label_(label) {}

    void read() {
        expect('{');
        while (!accept('}')) {
            const std::string_view key = quoted();
            expect(':');
            if (key == "descr")
                set(descr, type());
            else if (key == "fortran_order")
                set(fortran_order, boolean());
            else if (key == "shape")
                set(shape, extents());
            else
                refuse("has an unknown key");
            if (!accept(',')) {
                expect('}');
                break;
            }
        }
        skip();
        if (!rest_.empty()) refuse("goes on after its end");
        if (!descr || !fortran_order || !shape) refuse("lacks descr, fortran_order or shape");
    }

    std::optional<dtype> descr;
    std::optional<bool> fortran_order;
    std::optional<std::vector<index_t>> shape;

private:
    [[noreturn]] void refuse(const char* what) const {
        fail(errc::corrupt, detail::cat(label_, ": the header ", what));
    }
    [[noreturn]] void unsupported(const char* what) const { fail(errc::unsupported, detail::cat(label_, ": ", what)); }
    template <class T> void set(std::optional<T>& to, T value) {
        if (to) refuse("has a key twice");
        to = std::move(value);
    }
    void skip() {
        while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\n')) rest_.remove_prefix(1);
    }
    bool accept(char c) {
        skip();
        if (rest_.empty() || rest_.front() != c) return false;
        rest_.remove_prefix(1);
        return true;
    }
    void expect(char c) {
        if (!accept(c)) refuse("is not a dictionary of descr, fortran_order and shape");
    }
    bool accept_word(std::string_view word) {
        skip();
        if (!rest_.starts_with(word)) return false;
        rest_.remove_prefix(word.size());
        return true;
    }
    std::string_view quoted() {
        skip();
        const char quote = rest_.empty() ? '\0' : rest_.front();
        if (quote != '\'' && quote != '"') refuse("is not a dictionary of descr, fortran_order and shape");
        const std::size_t end = rest_.find(quote, 1);
        if (end == std::string_view::npos) refuse("has a text without an end");
        const std::string_view text = rest_.substr(1, end - 1);
        rest_.remove_prefix(end + 1);
        return text;
    }
    dtype type() {
        skip();
        if (!rest_.empty() && rest_.front() == '[') unsupported("is an array of structures");
        const std::string_view text = quoted();
        if (text.size() < 3) refuse("has a descr that names no type");
        for (const type_row& row : types)
            if (text.substr(1) == row.code) {
                if (text[0] == '<' || text[0] == '=' || (text[0] == '|' && size_of(row.type) == 1)) return row.type;
                if (text[0] == '>' && size_of(row.type) > 1) unsupported("is big-endian");
                refuse("has a descr that names no type");
            }
        unsupported(text[1] == 'O' ? "holds pickled objects" : "has elements that are no boolean, integer or float");
    }
    bool boolean() {
        if (accept_word("True")) return true;
        if (!accept_word("False")) refuse("has a fortran_order that is neither True nor False");
        return false;
    }
    std::vector<index_t> extents() {
        std::vector<index_t> result;
        expect('(');
        while (!accept(')')) {
            if (result.size() == max_rank) refuse("has more than 64 dimensions");
            result.push_back(number());
            if (accept(',')) continue;
            if (result.size() == 1) refuse("has a shape that is no tuple"); // (3) is the number three
            expect(')');
            break;
        }
        return result;
    }
    index_t number() {
        skip();
        index_t value = 0;
        std::size_t digits = 0;
        for (; digits < rest_.size() && rest_[digits] >= '0' && rest_[digits] <= '9'; ++digits)
            if (__builtin_mul_overflow(value, index_t{10}, &value) ||
                __builtin_add_overflow(value, index_t{rest_[digits] - '0'}, &value))
                refuse("has an extent that is too large");
        if (digits == 0) refuse("has a shape that is not of numbers");
        rest_.remove_prefix(digits);
        return value;
    }

    std::string_view rest_;
    const std::string& label_;
};

inline npy npy::parse(std::span<const std::byte> file, std::string label) {
    const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
    if (text.size() < 10 || !text.starts_with(magic)) fail(errc::corrupt, label + ": is no file of NumPy (.npy)");
    const auto byte = [&](std::size_t i) { return std::to_integer<std::size_t>(file[i]); };
    if (byte(6) < 1 || byte(6) > 3 || byte(7) != 0)
        fail(errc::unsupported, detail::cat(label, ": has version ", byte(6), ".", byte(7), " of NumPy's format"));
    const std::size_t start = byte(6) == 1 ? 10 : 12;
    if (text.size() < start) fail(errc::corrupt, label + ": truncated in the header");
    const std::size_t length =
        byte(8) | byte(9) << 8 | (start == 12 ? byte(10) << 16 | byte(11) << 24 : std::size_t{0});
    if (length > max_header) fail(errc::unsupported, detail::cat(label, ": has a header of ", length, " bytes"));
    if (length > text.size() - start) fail(errc::corrupt, label + ": truncated in the header");
    header_reader header(text.substr(start, length), label);
    header.read();
    if (*header.fortran_order && header.shape->size() > 1) fail(errc::unsupported, label + ": is in Fortran order");
    return npy(file.subspan(start + length), *header.descr, std::move(*header.shape), std::move(label), errc::corrupt);
}

inline buffer<std::byte> npy::to_bytes() const {
    std::string header(magic);
    header += std::string("\x01\x00\x00\x00", 4);
    header += detail::cat("{'descr': '", size_of(type_) == 1 ? "|" : "<", type_code(type_),
                          "', 'fortran_order': False, 'shape': (");
    for (std::size_t d = 0; d < shape_.size(); ++d)
        header += detail::cat(d > 0 ? " " : "", shape_[d], d == 0 || d + 1 < shape_.size() ? "," : "");
    header += "), }";
    header.resize((header.size() + 64) / 64 * 64, ' ');
    header.back() = '\n';
    header[8] = static_cast<char>((header.size() - 10) & 255);
    header[9] = static_cast<char>((header.size() - 10) >> 8);
    buffer<std::byte> file(static_cast<index_t>(header.size()) + data_.size());
    std::memcpy(file.data(), header.data(), header.size());
    if (!data_.empty()) std::memcpy(file.data() + header.size(), data_.data(), static_cast<std::size_t>(data_.size()));
    return file;
}

NOTCH_KEYED_END
