// SPDX-License-Identifier: Apache-2.0
//
// notch/io/calibration_cache.hpp: what observers saw, by the name of the tensor, in a text file. The file
// holds the statistics themselves, so that another method or another type of codes needs no data again,
// and shards of a calibration are merged afterwards. Format version 1, JSON:
//
//     {"notch_calibration":1,"tensors":{
//      "conv1.out":{"observer":"min_max","per":"tensor","statistics":[
//       {"finite":4096,"max":5.25,"min":-1.5,"nonfinite":0}]},
//      "conv1.weight":{"observer":"abs_max","per":"channel","statistics":[
//       {"finite":27,"magnitude":0.5,"nonfinite":0},
//       {"finite":27,"magnitude":0.25,"nonfinite":0}]}
//     }}
//
//   min_max          finite, nonfinite; min and max if finite > 0
//   moving_average   batches, momentum, nonfinite; min and max if batches > 0
//   abs_max          finite, magnitude, nonfinite
//   mean_sigma       finite, k, m2, mean, nonfinite; min and max if finite > 0
//   histogram        bins, exponent, first, finite, nonfinite, counts; min and max if finite > 0. Count i
//                    is that of bin first + i of width 2^exponent (observe/histogram.hpp), the last that
//                    of max
//   percentile       those of histogram, and percent
//
// Numbers are decimal with enough digits to be read back exactly, tensors are in order of their names,
// and the same content gives the same bytes: a file made on one machine is read on any other. The reader
// refuses what no observer can have seen. Needs nlohmann-json and xsimd.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/io/detail/calibration_json.hpp>
#include <notch/io/detail/file.hpp>
#include <notch/observe/observer.hpp>

NOTCH_KEYED_BEGIN

/// The largest calibration file that is read unless told otherwise: 256 MiB.
inline constexpr std::uint64_t max_calibration_bytes = std::uint64_t{1} << 28;

/// The statistics of named tensors. Not thread-safe to modify.
class calibration_cache {
public:
    /// Keeps a copy of an observer of notch, in place of what had the name before. Names are UTF-8 and not
    /// empty.
    template <class O> void put(const std::string& name, const O& o) {
        record r;
        r.channels.template emplace<list<O>>(1, held<O>{o});
        insert(name, std::move(r));
    }
    /// The same for one observer a channel; there must be at least one.
    template <class O> void put(const std::string& name, const channel_observer<O>& o) {
        if (o.channels() == 0)
            fail(errc::invalid_argument,
                 detail::cat("calibration_cache: ", detail::name_text(name), " has no channels"));
        record r;
        r.per_channel = true;
        auto& all = r.channels.template emplace<list<O>>();
        for (index_t c = 0; c < o.channels(); ++c) all.push_back({o[c]});
        insert(name, std::move(r));
    }

    /// The observer of a tensor, get<notch::histogram>("conv1.out"). An error that says what is there if it
    /// is another one, or one for each channel.
    template <class O> [[nodiscard]] O get(std::string_view name) const {
        return find<O>(name, false).front().observer;
    }
    /// The observers of the channels of a tensor.
    template <class O> [[nodiscard]] channel_observer<O> get_channels(std::string_view name) const {
        const list<O>& all = find<O>(name, true);
        channel_observer<O> o(static_cast<index_t>(all.size()), all.front().observer);
        for (std::size_t c = 1; c < all.size(); ++c) o.restore(static_cast<index_t>(c), all[c].observer);
        return o;
    }

    [[nodiscard]] bool contains(std::string_view name) const { return records_.find(name) != records_.end(); }
    [[nodiscard]] std::vector<std::string> names() const {
        std::vector<std::string> all;
        for (const auto& [name, r] : records_) all.push_back(name);
        return all;
    }
    /// As if each observer had also seen what the one of the same name in other has. Tensors of other that
    /// this does not have are added. Observers of one name must be of one kind; else nothing changes.
    void merge(const calibration_cache& other) {
        calibration_cache joined = *this;
        for (const auto& [name, r] : other.records_) {
            const auto at = joined.records_.find(name);
            if (at == joined.records_.end())
                joined.records_.emplace(name, r);
            else
                join(name, at->second, r);
        }
        records_.swap(joined.records_);
    }

    /// The file as save() writes it. An error (errc::overflow) if the histograms together have more bins than parse
    /// would accept from a file of that length: 2^24, and 1024 for each byte.
    [[nodiscard]] std::string to_text() const {
        std::int64_t bins = 0;
        std::string text = "{\"notch_calibration\":1,\"tensors\":{\n";
        const char* between = " ";
        for (const auto& [name, r] : records_) {
            text += between + dump(name) + ":{\"observer\":\"" + kind_of(r) + "\",\"per\":\"" +
                    (r.per_channel ? "channel" : "tensor") + "\",\"statistics\":[";
            std::visit(
                [&]<class O>(const list<O>& all) {
                    for (std::size_t c = 0; c < all.size(); ++c) {
                        text += (c == 0 ? "\n  " : ",\n  ") + dump(detail::saved_observer<O>::write(all[c].observer));
                        if constexpr (std::is_same_v<O, histogram>) bins += all[c].observer.statistics().bins;
                        if constexpr (std::is_same_v<O, percentile>)
                            bins += all[c].observer.statistics().statistics().bins;
                    }
                },
                r.channels);
            text += "]}";
            between = ",\n ";
        }
        text += "\n}}\n";
        if (bins > detail::bins_allowed(text.size()))
            fail(errc::overflow, detail::cat("calibration_cache: its histograms have ", bins, " bins, a file of ",
                                             text.size(), " bytes may have ", detail::bins_allowed(text.size())));
        return text;
    }
    /// Reads the text of a file; label stands for its path in messages. errc::corrupt if it is damaged,
    /// errc::unsupported if a later version of notch wrote it in another format.
    [[nodiscard]] static calibration_cache parse(std::string_view text,
                                                 const std::string& label = "calibration cache") {
        // The parser would skip a byte order mark and stop at a zero byte.
        if (text.empty() || text.front() != '{' || text.find('\0') != std::string_view::npos)
            fail(errc::corrupt, detail::cat(label, ": not a calibration cache: it is not a JSON object"));
        detail::document_events events;
        if (!detail::json_value::sax_parse(text.begin(), text.end(), &events))
            fail(errc::corrupt, detail::cat(label, ": ", events.fault));
        detail::members file(events.root, label);
        if (!events.root.contains("notch_calibration"))
            file.refuse("not a calibration cache: it has no notch_calibration");
        if (const std::int64_t version = file.integer("notch_calibration"); version != 1)
            fail(errc::unsupported, detail::cat(label, ": has version ", version, ", this build reads 1"));
        const detail::json_value& tensors = file.get("tensors");
        if (!tensors.is_object()) file.refuse("tensors is not an object");
        detail::check_bins(tensors, text.size(), label);
        calibration_cache cache;
        for (const auto& [name, value] : tensors.items()) {
            detail::members tensor(value, detail::cat(label, ": tensor ", detail::name_text(name)));
            if (name.empty()) tensor.refuse("a name is empty");
            cache.records_.emplace(name, read(tensor));
        }
        file.end();
        return cache;
    }
    /// Writes a new file beside path and renames it to path. On an error (errc::io) what was at path stays.
    void save(const std::string& path) const {
        const std::string text = to_text();
        detail::write_file(path, std::as_bytes(std::span<const char>(text.data(), text.size())));
    }
    /// Reads a file. errc::io if it cannot be read or has more than max_bytes; else as parse.
    [[nodiscard]] static calibration_cache load(const std::string& path,
                                                std::uint64_t max_bytes = max_calibration_bytes) {
        const buffer<std::byte> bytes = detail::read_file(path, max_bytes, [](auto&&...) {});
        return parse({reinterpret_cast<const char*>(bytes.data()), static_cast<std::size_t>(bytes.size())}, path);
    }

private:
    /// Gives standard containers a name with the key of the translation unit.
    template <class O> struct held { O observer; };
    template <class O> using list = std::vector<held<O>>;
    struct record {
        bool per_channel = false;
        std::variant<list<min_max>, list<moving_average>, list<abs_max>, list<mean_sigma>, list<histogram>,
                     list<percentile>>
            channels;
    };

    static std::string dump(const detail::json_value& v) { return v.dump(-1, ' ', true); }
    static const char* kind_of(const record& r) {
        return std::visit([]<class O>(const list<O>&) { return detail::saved_observer<O>::name; }, r.channels);
    }
    void insert(const std::string& name, record&& r) {
        const std::string text =
            detail::json_value(name).dump(-1, ' ', true, detail::json_value::error_handler_t::ignore);
        if (name.empty() || detail::json_value::parse(text).template get_ref<const std::string&>() != name)
            fail(errc::invalid_argument, detail::cat("calibration_cache: the name ", detail::name_text(name),
                                                     name.empty() ? " is empty" : " is not valid UTF-8"));
        records_.insert_or_assign(name, std::move(r));
    }
    template <class O> const list<O>& find(std::string_view name, bool per_channel) const {
        const auto at = records_.find(name);
        if (at == records_.end())
            fail(errc::invalid_argument, detail::cat("calibration_cache: no tensor ", detail::name_text(name),
                                                     " among its ", records_.size(), " tensors"));
        const auto* all = std::get_if<list<O>>(&at->second.channels);
        if (!all || at->second.per_channel != per_channel)
            fail(errc::invalid_argument,
                 detail::cat("calibration_cache: ", detail::name_text(name), " has ", kind_of(at->second),
                             at->second.per_channel ? " for each channel" : "", ", asked for ",
                             detail::saved_observer<O>::name, per_channel ? " for each channel" : ""));
        return *all;
    }
    static void join(const std::string& name, record& to, const record& from) {
        std::visit(
            [&]<class O>(list<O>& all) {
                const auto* other = std::get_if<list<O>>(&from.channels);
                if (!other || to.per_channel != from.per_channel || other->size() != all.size())
                    fail(errc::shape_mismatch, detail::cat("calibration_cache.merge: ", detail::name_text(name),
                                                           " has ", all.size(), " times ", kind_of(to), " in one and ",
                                                           count_of(from), " times ", kind_of(from), " in the other"));
                for (std::size_t c = 0; c < all.size(); ++c) all[c].observer.merge((*other)[c].observer);
            },
            to.channels);
    }
    static std::size_t count_of(const record& r) {
        return std::visit([](const auto& all) { return all.size(); }, r.channels);
    }
    static record read(detail::members& tensor) {
        record r;
        const std::string& per = tensor.text("per");
        if (per != "tensor" && per != "channel")
            tensor.refuse("per is " + detail::name_text(per) + ", must be tensor or channel");
        r.per_channel = per == "channel";
        const std::string& kind = tensor.text("observer");
        const detail::json_value& statistics = tensor.get("statistics");
        tensor.end();
        if (!statistics.is_array() || statistics.empty() || (!r.per_channel && statistics.size() != 1))
            tensor.refuse("statistics is not an array of one entry for each channel");
        if (!(read_list<min_max>(kind, statistics, tensor, r) ||
              read_list<moving_average>(kind, statistics, tensor, r) ||
              read_list<abs_max>(kind, statistics, tensor, r) || read_list<mean_sigma>(kind, statistics, tensor, r) ||
              read_list<histogram>(kind, statistics, tensor, r) || read_list<percentile>(kind, statistics, tensor, r)))
            tensor.refuse("has the unknown observer " + detail::name_text(kind));
        return r;
    }
    template <class O>
    static bool read_list(const std::string& kind, const detail::json_value& statistics, const detail::members& tensor,
                          record& r) {
        if (kind != detail::saved_observer<O>::name) return false;
        auto& all = r.channels.template emplace<list<O>>();
        for (const detail::json_value& s : statistics) {
            detail::members m(s, tensor.where());
            // What restore refuses is a fault of the file.
#if NOTCH_EXCEPTIONS
            try {
#endif
                all.push_back({detail::saved_observer<O>::read(m)});
#if NOTCH_EXCEPTIONS
            } catch (const error& e) {
                if (e.code() == errc::corrupt) throw;
                m.refuse(e.what());
            }
#endif
            m.end();
        }
        return true;
    }
    std::map<std::string, record, detail::name_less> records_;
};

NOTCH_KEYED_END
