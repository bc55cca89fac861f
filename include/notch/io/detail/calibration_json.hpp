// SPDX-License-Identifier: Apache-2.0
//
// notch/io/detail/calibration_json.hpp: a small JSON document that trusts nobody, and the statistics of
// each observer as a JSON object. The document refuses what a tree of nlohmann-json would swallow: two
// equal keys, and depth without end.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <notch/core/error.hpp>
#include <notch/core/types.hpp>
#include <notch/io/detail/safetensors_header.hpp>
#include <notch/observe/abs_max.hpp>
#include <notch/observe/histogram.hpp>
#include <notch/observe/mean_sigma.hpp>
#include <notch/observe/min_max.hpp>
#include <notch/observe/moving_average.hpp>
#include <notch/observe/percentile.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

/// The order of names. Through it the maps carry the key of this translation unit.
struct name_less {
    using is_transparent = void;
    bool operator()(std::string_view a, std::string_view b) const noexcept { return a < b; }
};

/// Builds a document from the events of json_value::sax_parse. The first fault ends the reading.
class document_events {
public:
    using json = json_value;
    static constexpr std::size_t max_depth = 6; ///< file, tensors, tensor, statistics, statistic, counts

    json root;
    std::string fault;

    bool null() { return add(json()); }
    bool boolean(bool v) { return add(json(v)); }
    bool number_integer(json::number_integer_t v) { return add(json(v)); }
    bool number_unsigned(json::number_unsigned_t v) { return add(json(v)); }
    bool number_float(json::number_float_t v, const json::string_t&) {
        return std::isfinite(v) ? add(json(v)) : refuse("a number is too large");
    }
    bool string(json::string_t& v) { return add(json(std::move(v))); }
    bool binary(json::binary_t&) { return refuse("binary data"); }
    bool key(json::string_t& k) {
        if (open_.back()->contains(k)) return refuse("two entries are called " + name_text(k));
        key_ = std::move(k);
        return true;
    }
    bool start_object(std::size_t) { return add(json::object(), true); }
    bool start_array(std::size_t) { return add(json::array(), true); }
    bool end_object() { return close(); }
    bool end_array() { return close(); }
    template <class Exception> bool parse_error(std::size_t position, const std::string&, const Exception&) {
        return refuse(cat("not valid JSON at byte ", position));
    }

private:
    bool refuse(std::string what) {
        if (fault.empty()) fault = std::move(what);
        return false;
    }
    bool close() {
        open_.pop_back();
        return true;
    }
    bool add(json&& value, bool opens = false) {
        if (opens && open_.size() == max_depth) return refuse(cat("nested deeper than ", max_depth, " levels"));
        json* at = &root;
        if (open_.empty()) {
            root = std::move(value);
        } else if (open_.back()->is_array()) {
            open_.back()->push_back(std::move(value));
            at = &open_.back()->back();
        } else {
            at = &(*open_.back())[key_];
            *at = std::move(value);
        }
        // A value that is added later moves no value that is still open: only the last of an array is.
        if (opens) open_.push_back(at);
        return true;
    }
    std::vector<json*> open_;
    std::string key_;
};

/// An object of a calibration file. Every member is read exactly once; what is missing, of another type,
/// or left over, is an error that names where.
class members {
public:
    members(const json_value& object, std::string where) : object_(object), where_(std::move(where)) {
        if (!object.is_object()) refuse("is not an object");
    }
    [[noreturn]] void refuse(const std::string& what) const { fail(errc::corrupt, cat(where_, ": ", what)); }
    [[nodiscard]] const std::string& where() const noexcept { return where_; }
    [[nodiscard]] const json_value& get(const char* name) {
        const auto at = object_.find(name);
        if (at == object_.end()) refuse(cat("has no ", name));
        ++read_;
        return *at;
    }
    [[nodiscard]] double real(const char* name) {
        const json_value& v = get(name);
        if (!v.is_number()) refuse(cat(name, " is not a number"));
        return v.get<double>();
    }
    [[nodiscard]] float real32(const char* name) {
        const double v = real(name);
        const auto f = static_cast<float>(std::fabs(v) <= static_cast<double>(FLT_MAX) ? v : 0.0);
        if (static_cast<double>(f) != v) refuse(cat(name, " is ", v, ", not the value of a float"));
        return f;
    }
    [[nodiscard]] std::int64_t integer(const char* name) { return integer_of(name, get(name)); }
    [[nodiscard]] std::int64_t integer_of(const char* name, const json_value& v) const {
        if (!v.is_number_integer() ||
            (v.is_number_unsigned() &&
             v.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())))
            refuse(cat(name, " is not an integer of 64 bits"));
        return v.get<std::int64_t>();
    }
    [[nodiscard]] const std::string& text(const char* name) {
        const json_value& v = get(name);
        if (!v.is_string()) refuse(cat(name, " is not a text"));
        return v.get_ref<const std::string&>();
    }
    /// min and max, which are there if something was seen.
    [[nodiscard]] real_range range(bool seen) {
        if (!seen) return {};
        const float min = real32("min");
        return {min, real32("max")};
    }
    /// Nothing may be left over.
    void end() const {
        if (read_ != object_.size()) refuse("has an entry that this version does not know");
    }

private:
    const json_value& object_;
    std::string where_;
    std::size_t read_ = 0;
};

inline void put_range(json_value& j, real_range r) {
    if (r.empty()) return;
    j["min"] = r.min;
    j["max"] = r.max;
}

/// A file of a few bytes must not ask for memory without end: so many bins may all its histograms have together. A
/// statistic takes 80 bytes or more, whatever its bins, so 80,000 bins each are always fine.
[[nodiscard]] inline std::int64_t bins_allowed(std::size_t bytes) {
    return (std::int64_t{1} << 24) + 1024 * static_cast<std::int64_t>(bytes);
}
inline void check_bins(const json_value& tensors, std::size_t bytes, const std::string& label) {
    std::int64_t left = bins_allowed(bytes);
    for (const json_value& tensor : tensors) {
        const auto statistics = tensor.is_object() ? tensor.find("statistics") : tensor.end();
        if (statistics == tensor.end()) continue;
        for (const json_value& each : *statistics) {
            const auto bins = each.is_object() ? each.find("bins") : each.end();
            if (bins == each.end() || !bins->is_number_integer()) continue;
            const auto n = bins->template get<std::int64_t>();
            if (n < 0 || n > most_bins) continue; // refused when it is read
            left -= n;
            if (left < 0)
                fail(errc::corrupt, cat(label, ": names more bins than a file of ", bytes, " bytes may have"));
        }
    }
}

/// How an observer is called in a file, and its statistics there and back.
template <class O> struct saved_observer;

template <> struct saved_observer<min_max> {
    static constexpr const char* name = "min_max";
    static json_value write(const min_max& o) {
        json_value j{{"finite", o.finite()}, {"nonfinite", o.nonfinite()}};
        put_range(j, o.range());
        return j;
    }
    static min_max read(members& m) {
        const std::int64_t finite = m.integer("finite"), nonfinite = m.integer("nonfinite");
        return min_max::restore(m.range(finite != 0), finite, nonfinite);
    }
};
template <> struct saved_observer<moving_average> {
    static constexpr const char* name = "moving_average";
    static json_value write(const moving_average& o) {
        json_value j{{"batches", o.batches()}, {"momentum", o.momentum()}, {"nonfinite", o.nonfinite()}};
        put_range(j, o.range());
        return j;
    }
    static moving_average read(members& m) {
        const std::int64_t batches = m.integer("batches"), nonfinite = m.integer("nonfinite");
        const float momentum = m.real32("momentum");
        return moving_average::restore(momentum, m.range(batches != 0), batches, nonfinite);
    }
};
template <> struct saved_observer<abs_max> {
    static constexpr const char* name = "abs_max";
    static json_value write(const abs_max& o) {
        return {{"finite", o.finite()}, {"magnitude", o.magnitude()}, {"nonfinite", o.nonfinite()}};
    }
    static abs_max read(members& m) {
        const std::int64_t finite = m.integer("finite"), nonfinite = m.integer("nonfinite");
        return abs_max::restore(m.real32("magnitude"), finite, nonfinite);
    }
};
template <> struct saved_observer<mean_sigma> {
    static constexpr const char* name = "mean_sigma";
    static json_value write(const mean_sigma& o) {
        const moments& s = o.statistics();
        json_value j{{"finite", s.finite}, {"k", o.k()}, {"m2", s.m2}, {"mean", s.mean}, {"nonfinite", s.nonfinite}};
        put_range(j, s.range);
        return j;
    }
    static mean_sigma read(members& m) {
        moments s;
        s.finite = m.integer("finite");
        s.nonfinite = m.integer("nonfinite");
        s.mean = m.real("mean");
        s.m2 = m.real("m2");
        s.range = m.range(s.finite != 0);
        return mean_sigma::restore(m.real32("k"), s);
    }
};
template <> struct saved_observer<histogram> {
    static constexpr const char* name = "histogram";
    static json_value write(const histogram& o) {
        const histogram_state& s = o.statistics();
        json_value j{{"bins", s.bins},
                     {"exponent", s.exponent},
                     {"finite", s.finite},
                     {"first", s.first},
                     {"nonfinite", s.nonfinite}};
        put_range(j, s.range);
        json_value& counts = j["counts"] = json_value::array();
        for (std::int64_t c : o.view().counts) counts.push_back(c);
        return j;
    }
    static histogram read(members& m) {
        histogram_state s;
        const std::int64_t bins = m.integer("bins"), exponent = m.integer("exponent"), first = m.integer("first");
        const json_value& counts = m.get("counts");
        if (!counts.is_array()) m.refuse("counts is not an array");
        // Memory only for what the file really holds, and the bins that it may leave out.
        if (bins < 1 || bins > most_bins || counts.size() > static_cast<std::size_t>(bins))
            m.refuse(cat("has ", counts.size(), " counts and says ", bins, " bins"));
        if (exponent < -126 || exponent > 127 || first < std::numeric_limits<std::int32_t>::min() ||
            first > std::numeric_limits<std::int32_t>::max())
            m.refuse(cat("no histogram has the exponent ", exponent, " and the first bin ", first));
        s.bins = static_cast<index_t>(bins);
        s.exponent = static_cast<int>(exponent);
        s.first = static_cast<std::int32_t>(first);
        s.finite = m.integer("finite");
        s.nonfinite = m.integer("nonfinite");
        s.range = m.range(s.finite != 0);
        s.counts = buffer<std::int64_t>(s.bins);
        index_t i = 0;
        for (const json_value& c : counts) s.counts[i++] = m.integer_of("a count", c);
        return histogram::restore(s);
    }
};
template <> struct saved_observer<percentile> {
    static constexpr const char* name = "percentile";
    static json_value write(const percentile& o) {
        json_value j = saved_observer<histogram>::write(o.statistics());
        j["percent"] = o.percent();
        return j;
    }
    static percentile read(members& m) {
        const double percent = m.real("percent");
        return percentile(percent, saved_observer<histogram>::read(m));
    }
};

} // namespace detail
NOTCH_KEYED_END
