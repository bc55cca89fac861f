// SPDX-License-Identifier: Apache-2.0
//
// notch/io/detail/flat_reader.hpp: checked access to a flatbuffer without generated code: a field is a number. Whatever
// is read has been verified by flatbuffers::Verifier before: the table when it is reached, a field when it is asked
// for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <flatbuffers/flatbuffers.h>

#include <notch/core/error.hpp>
#include <notch/core/types.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

/// A flatbuffer has fewer bytes.
inline constexpr std::uint64_t flatbuffer_bytes_end = (std::uint64_t{1} << 31) - 1;

/// Reads tables that it has verified; everything else goes through it. A table is verified when it is reached, a field
/// when it is read.
class flat_reader {
public:
    using table = flatbuffers::Table;
    using field = flatbuffers::voffset_t; ///< of field number n: 4 + 2 n

    flat_reader(std::span<const std::byte> file, const std::string& label)
        : file_(file), label_(label), verifier_(bytes(), file.size(), 64, 1'000'000), budget_(16 * file.size()) {}

    [[noreturn]] void refuse(const std::string& what, errc code = errc::corrupt) const {
        fail(code, cat(label_, ": ", where_.empty() ? "" : where_ + ": ", what));
    }
    /// What is being read, for messages.
    void at(std::string where) { where_ = std::move(where); }

    /// The root table of a file with this identifier of four letters.
    const table& root(std::string_view identifier) {
        if (file_.size() < 8 || std::string_view(reinterpret_cast<const char*>(file_.data()) + 4, 4) != identifier)
            refuse(cat("not a file with the identifier ", identifier));
        const std::size_t start = verifier_.VerifyOffset(std::size_t{0});
        if (start == 0) refuse("its root lies outside the file");
        return verified(reinterpret_cast<const table*>(bytes() + start));
    }
    /// A table that a field refers to; null if there is none.
    const table* child(const table& t, field f) {
        if (!t.VerifyOffset(verifier_, f)) refuse("a table lies outside the file");
        const auto* p = t.GetPointer<const table*>(f);
        return p ? &verified(p) : nullptr;
    }
    template <class T> T scalar(const table& t, field f, T missing) const {
        if (!t.VerifyField<T>(verifier_, f, sizeof(T))) refuse("a field lies outside the file");
        return t.GetField<T>(f, missing);
    }
    std::string text(const table& t, field f) {
        if (!t.VerifyOffset(verifier_, f)) refuse("a text lies outside the file");
        const auto* s = t.GetPointer<const flatbuffers::String*>(f);
        if (!verifier_.VerifyString(s)) refuse("a text lies outside the file");
        if (!s) return {};
        charge(s->size());
        return {s->c_str(), s->size()};
    }
    /// The bytes of a vector of T; none if there is no vector. (T may be unaligned: the Verifier looks at the length.)
    template <class T> std::span<const std::byte> raw(const table& t, field f) const {
        if (!t.VerifyOffset(verifier_, f)) refuse("a vector lies outside the file");
        const auto* v = t.GetPointer<const flatbuffers::Vector<T>*>(f);
        if (!verifier_.VerifyVector(v)) refuse("a vector lies outside the file");
        if (!v || v->size() == 0) return {};
        return file_.subspan(static_cast<std::size_t>(v->Data() - bytes()), v->size() * sizeof(T));
    }
    template <class T> std::vector<T> numbers(const table& t, field f) {
        const auto from = raw<T>(t, f);
        charge(from.size());
        std::vector<T> all(from.size() / sizeof(T));
        if (!from.empty()) std::memcpy(all.data(), from.data(), from.size());
        return all;
    }
    /// The same as indices, which must be least..end - 1.
    std::vector<index_t> indices(const table& t, field f, index_t least, index_t end, const char* what) {
        const auto from = numbers<std::int32_t>(t, f);
        charge(from.size() * sizeof(index_t));
        for (std::int32_t i : from)
            if (i < least || i >= end) refuse(cat(what, " ", i, " is not within ", least, "..", end - 1));
        return {from.begin(), from.end()};
    }
    /// Calls read(table, index) for the tables of a vector; each takes so many bytes in memory.
    template <class Read> void each(const table& t, field f, std::size_t taken, const Read& read) {
        const auto offsets = raw<flatbuffers::uoffset_t>(t, f);
        if (offsets.empty()) return;
        const auto begin = static_cast<std::size_t>(offsets.data() - file_.data());
        for (std::size_t i = 0; i < offsets.size() / sizeof(flatbuffers::uoffset_t); ++i) {
            charge(taken);
            const std::size_t place = begin + i * sizeof(flatbuffers::uoffset_t);
            const std::size_t offset = verifier_.VerifyOffset(place);
            if (offset == 0) refuse("a table lies outside the file");
            read(verified(reinterpret_cast<const table*>(bytes() + place + offset)), static_cast<index_t>(i));
        }
    }
    std::span<const std::byte> file() const noexcept { return file_; }
    /// Tables and vectors may be referred to more than once, so a small file could ask for much memory.
    void charge(std::size_t bytes) {
        if (bytes > budget_) refuse("takes more memory than 16 times the file; its parts refer to the same bytes");
        budget_ -= bytes;
    }

private:
    const std::uint8_t* bytes() const noexcept { return reinterpret_cast<const std::uint8_t*>(file_.data()); }
    const table& verified(const table* t) {
        if (!verifier_.VerifyTableStart(reinterpret_cast<const std::uint8_t*>(t)))
            refuse("a table lies outside the file, or there are more than a million");
        (void)verifier_.EndTable();
        return *t;
    }

    std::span<const std::byte> file_;
    const std::string& label_;
    std::string where_;
    flatbuffers::Verifier verifier_;
    std::size_t budget_;
};

/// A text from a file, fit for a message: printable ASCII, at most 80 bytes.
inline std::string flat_text(std::string_view text) {
    std::string out = "\"";
    for (char c : text.substr(0, 80)) out += c >= ' ' && c <= '~' && c != '"' ? c : '?';
    return out + (text.size() > 80 ? "\"..." : "\"");
}

} // namespace detail
NOTCH_KEYED_END
