// SPDX-License-Identifier: Apache-2.0
//
// notch/io/detail/safetensors_header.hpp: the header of a safetensors file, read event by event.
// The grammar has three levels, so anything nested deeper ends the reading at once; an event
// reader also sees a duplicate key, which a document tree would swallow.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <notch/core/error.hpp>
#include <notch/core/types.hpp>
#include <notch/io/dtype.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

inline constexpr std::uint64_t max_header_bytes = 100'000'000; // the limit of the format
inline constexpr std::size_t max_rank = 32;

/// The map of a JSON object. Only its name matters: through it every template of nlohmann-json that
/// notch uses carries the key of this translation unit, and is shared with nobody.
template <class K, class V, class Less, class Allocator> class json_map : public std::map<K, V, Less, Allocator> {
public:
    using std::map<K, V, Less, Allocator>::map;
};
using json_value = nlohmann::basic_json<json_map>;

/// A name from a file, fit for a message: in quotes, escaped to ASCII, at most 80 bytes of it.
inline std::string name_text(std::string_view name) {
    const bool cut = name.size() > 80;
    std::string text =
        json_value(std::string(name.substr(0, 80))).dump(-1, ' ', true, json_value::error_handler_t::replace);
    return cut ? text + "..." : text;
}

struct header_extent {
    std::size_t header_bytes = 0, data_bytes = 0;
};

/// Checks the length field against the size of the file. start: the first 8 bytes or more.
inline header_extent check_header_extent(std::span<const std::byte> start, std::uint64_t file_bytes,
                                         const std::string& label) {
    if (file_bytes < 8 || start.size() < 8)
        fail(errc::corrupt, cat(label, ": has only ", file_bytes, " bytes, not a safetensors file"));
    std::uint64_t length = 0;
    std::memcpy(&length, start.data(), 8);
    if (length > max_header_bytes)
        fail(errc::corrupt, cat(label, ": the header claims ", length, " bytes, more than the format's limit of ",
                                max_header_bytes, "; not a safetensors file"));
    if (length > file_bytes - 8)
        fail(errc::corrupt, cat(label, ": truncated: the header claims ", length, " bytes, ", file_bytes - 8,
                                " are left in the file"));
    return {static_cast<std::size_t>(length), static_cast<std::size_t>(file_bytes - 8 - length)};
}

struct safetensors_header {
    std::vector<tensor_info> tensors;
    std::vector<std::pair<std::string, std::string>> metadata;
};

/// Receives the events of json_value::sax_parse. Every event returns whether to go on; the
/// first fault is kept in `fault`.
class header_events {
public:
    using json = json_value;

    safetensors_header result;
    std::string fault;

    bool null() { return unexpected("null"); }
    bool boolean(bool) { return unexpected("a boolean"); }
    bool number_integer(json::number_integer_t) { return unexpected("a negative number"); }
    bool number_float(json::number_float_t, const json::string_t&) {
        return unexpected("a number that is not a 64-bit integer");
    }
    bool binary(json::binary_t&) { return unexpected("binary"); }
    bool number_unsigned(json::number_unsigned_t value) {
        if (where_ != place::shape && where_ != place::offsets) return unexpected("a number");
        if (value > static_cast<std::uint64_t>(std::numeric_limits<index_t>::max()))
            return refuse(cat(value, " is too large"));
        if (numbers_.size() == max_rank) return refuse("has more than 32 dimensions");
        numbers_.push_back(static_cast<index_t>(value));
        return true;
    }
    bool string(json::string_t& text) {
        if (where_ == place::metadata) {
            result.metadata.emplace_back(std::move(key_), std::move(text));
            return true;
        }
        if (where_ != place::tensor || key_ != "dtype") return unexpected("a string");
        const std::optional<dtype> type = dtype_from_name(text);
        if (!type) return refuse("has the unknown dtype " + name_text(text));
        if (seen_dtype_) return refuse("has two dtypes");
        seen_dtype_ = true;
        tensor_.type = *type;
        return true;
    }
    bool key(json::string_t& text) {
        key_ = std::move(text);
        return true;
    }
    bool start_object(std::size_t) {
        if (where_ == place::outside) {
            where_ = place::top;
            return true;
        }
        if (where_ != place::top) return unexpected("an object");
        if (key_ == "__metadata__") {
            if (seen_metadata_) return refuse("has two __metadata__");
            seen_metadata_ = true;
            where_ = place::metadata;
        } else {
            where_ = place::tensor;
            tensor_ = {};
            tensor_.name = std::move(key_);
            seen_dtype_ = seen_shape_ = seen_offsets_ = false;
        }
        return true;
    }
    bool end_object() {
        if (where_ == place::tensor) {
            if (!seen_dtype_ || !seen_shape_ || !seen_offsets_)
                return refuse(!seen_dtype_ ? "has no dtype" : !seen_shape_ ? "has no shape" : "has no data_offsets");
            result.tensors.push_back(std::move(tensor_));
        }
        where_ = where_ == place::top ? place::done : place::top;
        return true;
    }
    bool start_array(std::size_t) {
        if (where_ != place::tensor) return unexpected("an array");
        const bool is_shape = key_ == "shape";
        if (!is_shape && key_ != "data_offsets") return unexpected("an array");
        bool& seen = is_shape ? seen_shape_ : seen_offsets_;
        if (seen) return refuse("has two " + key_);
        seen = true;
        numbers_.clear();
        where_ = is_shape ? place::shape : place::offsets;
        return true;
    }
    bool end_array() {
        if (where_ == place::shape) {
            tensor_.shape = numbers_;
        } else {
            if (numbers_.size() != 2) return refuse("has data_offsets that are not two numbers");
            tensor_.begin = numbers_[0];
            tensor_.end = numbers_[1];
        }
        where_ = place::tensor;
        return true;
    }
    template <class Exception> bool parse_error(std::size_t position, const std::string&, const Exception&) {
        fault = cat("the header is not valid JSON at byte ", position);
        return false;
    }

private:
    enum class place { outside, top, metadata, tensor, shape, offsets, done };

    bool refuse(const std::string& what) {
        const bool in_tensor = where_ == place::tensor || where_ == place::shape || where_ == place::offsets;
        fault = (in_tensor ? "tensor " + name_text(tensor_.name) : std::string("the header")) + " " + what;
        return false;
    }
    bool unexpected(const char* what) {
        return refuse(cat("has ", what, " at ", name_text(key_), ", which the format does not allow there"));
    }

    place where_ = place::outside;
    std::string key_;
    tensor_info tensor_;
    std::vector<index_t> numbers_;
    bool seen_dtype_ = false, seen_shape_ = false, seen_offsets_ = false, seen_metadata_ = false;
};

/// Each tensor has as many bytes as its shape and dtype say, and together they cover the data
/// exactly once.
inline void check_tensors(const std::vector<tensor_info>& tensors, std::size_t data_bytes, const std::string& label) {
    std::vector<const tensor_info*> order;
    order.reserve(tensors.size());
    for (const tensor_info& t : tensors) {
        index_t bytes = size_of(t.type);
        bool overflow = false;
        for (index_t extent : t.shape) overflow = overflow || __builtin_mul_overflow(bytes, extent, &bytes);
        if (overflow)
            fail(errc::corrupt, cat(label, ": tensor ", name_text(t.name), " of shape ", shape_text(t.shape),
                                    " overflows the address space"));
        if (t.begin > t.end || static_cast<std::uint64_t>(t.end) > data_bytes)
            fail(errc::corrupt, cat(label, ": tensor ", name_text(t.name), " has data_offsets [", t.begin, ", ", t.end,
                                    "] outside the ", data_bytes, " bytes of data; truncated?"));
        if (t.end - t.begin != bytes)
            fail(errc::corrupt,
                 cat(label, ": tensor ", name_text(t.name), " of shape ", shape_text(t.shape), " and dtype ",
                     to_string(t.type), " needs ", bytes, " bytes, its data_offsets span ", t.end - t.begin));
        order.push_back(&t);
    }
    std::sort(order.begin(), order.end(), [](const tensor_info* a, const tensor_info* b) {
        return a->begin != b->begin ? a->begin < b->begin : a->end < b->end;
    });
    index_t end = 0;
    for (const tensor_info* t : order) {
        if (t->begin != end)
            fail(errc::corrupt,
                 cat(label, ": tensor ", name_text(t->name), " starts at byte ", t->begin, " of the data, ",
                     t->begin < end ? "inside another tensor" : "after a gap", "; expected ", end));
        end = t->end;
    }
    if (static_cast<std::uint64_t>(end) != data_bytes)
        fail(errc::corrupt, cat(label, ": ", data_bytes - static_cast<std::uint64_t>(end),
                                " bytes after the last tensor belong to none"));
}

inline safetensors_header parse_safetensors_header(std::string_view text, std::size_t data_bytes,
                                                   const std::string& label) {
    // The parser would skip a byte order mark and stop at a zero byte.
    if (text.empty() || text.front() != '{' || text.find('\0') != std::string_view::npos)
        fail(errc::corrupt, cat(label, ": the header is not a JSON object; not a safetensors file"));
    header_events events;
    if (!json_value::sax_parse(text.begin(), text.end(), &events)) fail(errc::corrupt, cat(label, ": ", events.fault));
    safetensors_header header = std::move(events.result);
    std::sort(header.tensors.begin(), header.tensors.end(),
              [](const tensor_info& a, const tensor_info& b) { return a.name < b.name; });
    std::sort(header.metadata.begin(), header.metadata.end());
    for (std::size_t i = 1; i < header.tensors.size(); ++i)
        if (header.tensors[i].name == header.tensors[i - 1].name)
            fail(errc::corrupt, cat(label, ": two tensors are called ", name_text(header.tensors[i].name)));
    for (std::size_t i = 1; i < header.metadata.size(); ++i)
        if (header.metadata[i].first == header.metadata[i - 1].first)
            fail(errc::corrupt, cat(label, ": two metadata are called ", name_text(header.metadata[i].first)));
    check_tensors(header.tensors, data_bytes, label);
    return header;
}

} // namespace detail
NOTCH_KEYED_END
