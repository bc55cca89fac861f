// SPDX-License-Identifier: Apache-2.0
//
// Numbers and texts of the results, as the report and the terminal show them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace mnist::report {

using nlohmann::json;

inline const json& at(const json& object, const char* key) {
    static const json nothing;
    if (!object.is_object()) return nothing;
    const auto found = object.find(key);
    return found == object.end() ? nothing : *found;
}

inline std::optional<double> number(const json& object, const char* key) {
    const json& value = at(object, key);
    if (!value.is_number()) return std::nullopt;
    const double d = value.get<double>();
    return std::isfinite(d) ? std::optional(d) : std::nullopt;
}

inline std::string text(const json& object, const char* key, const char* otherwise = "") {
    const json& value = at(object, key);
    return value.is_string() ? value.get<std::string>() : otherwise;
}

/// The elements of an array; none if it is something else.
inline const json& list(const json& object, const char* key) {
    static const json none = json::array();
    const json& value = at(object, key);
    return value.is_array() ? value : none;
}

inline const char* const dash = "–";

inline std::string fixed(std::optional<double> value, int decimals) {
    if (!value) return dash;
    char out[64];
    std::snprintf(out, sizeof out, "%.*f", decimals, *value);
    return out;
}

/// A code or another whole number, with a real minus sign.
inline std::string whole(std::optional<double> value) {
    const std::string digits = fixed(value, 0);
    return digits[0] == '-' ? "−" + digits.substr(1) : digits;
}

/// A small count, such as a number of threads.
inline int count(const json& object, const char* key, int otherwise) {
    return static_cast<int>(std::clamp(number(object, key).value_or(otherwise), 0.0, 1e6));
}

/// 1234567.8 -> 1,234,568
inline std::string grouped(std::optional<double> value) {
    std::string digits = fixed(value, 0);
    if (!value) return digits;
    for (int i = static_cast<int>(digits.size()) - 3; i > (digits[0] == '-' ? 1 : 0); i -= 3)
        digits.insert(static_cast<std::size_t>(i), ",");
    return digits;
}

/// Three digits that matter: 4.12, 41.2, 412.
inline std::string brief(std::optional<double> value) {
    if (!value) return dash;
    const double size = std::fabs(*value);
    return size >= 1000 ? grouped(value) : fixed(value, size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

/// A real value of any size: -0.493, 0.00123, 1.2e-05.
inline std::string brief_real(std::optional<double> value) {
    if (!value) return dash;
    char out[64];
    std::snprintf(out, sizeof out, "%.3g", std::fabs(*value));
    return (*value < 0 ? "−" : "") + std::string(out);
}

inline std::string kilobytes(std::optional<double> bytes) { return bytes ? brief(*bytes / 1000) : std::string(dash); }

inline std::string with_sign(std::optional<double> value) {
    if (!value) return dash;
    const double rounded = std::round(*value * 100) / 100;
    return rounded == 0 ? "0.00" : (rounded > 0 ? "+" : "−") + fixed(std::fabs(rounded), 2);
}

inline std::string times(std::optional<double> ratio) { return ratio ? brief(ratio) + "×" : dash; }

/// For HTML text and quoted attributes.
inline std::string escape(const std::string& raw) {
    std::string out;
    for (char c : raw) {
        switch (c) {
        case '&': out += "&amp;"; break;
        case '<': out += "&lt;"; break;
        case '>': out += "&gt;"; break;
        case '"': out += "&quot;"; break;
        case '\'': out += "&#39;"; break;
        default: out += c;
        }
    }
    return out;
}

/// Columns that UTF-8 text takes on a terminal.
inline std::size_t columns(const std::string& s) {
    return static_cast<std::size_t>(
        std::count_if(s.begin(), s.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

inline std::string join(const std::vector<std::string>& parts, const char* between) {
    std::string out;
    for (std::size_t i = 0; i < parts.size(); ++i) out += (i ? between : "") + parts[i];
    return out;
}

/// The rows of one network, in their order.
struct network {
    std::string name, title;
    std::vector<const json*> rows;
};

inline std::vector<network> networks(const json& results) {
    std::vector<network> all;
    for (const json& row : list(results, "rows")) {
        const std::string name = text(row, "network");
        auto found = std::find_if(all.begin(), all.end(), [&](const network& n) { return n.name == name; });
        if (found == all.end()) found = all.insert(all.end(), {name, text(row, "network_title", name.c_str()), {}});
        found->rows.push_back(&row);
    }
    return all;
}

/// How a network's name is shown: "a: Conv 3x3 + dense".
inline std::string heading(const network& n) {
    return n.name.empty() || n.name == n.title ? n.title : n.name + ": " + n.title;
}

/// The proof: how many codes were compared and how many differ, and where.
struct agreement {
    double checked = 0, mismatched = 0;
    bool measured = false;
    std::vector<std::string> isas;
    std::set<int> threads;
    std::map<std::string, int> part; ///< ISAs that did not see all test images, and how many they saw
    int images = 0;                  ///< all test images
};

inline agreement total_agreement(const json& results) {
    agreement sum;
    sum.images = count(at(results, "meta"), "test_images", 0);
    const auto add_isa = [&](const std::string& isa) {
        if (!isa.empty() && std::find(sum.isas.begin(), sum.isas.end(), isa) == sum.isas.end()) sum.isas.push_back(isa);
    };
    for (const json& row : list(results, "rows")) {
        const auto mismatched = number(row, "mismatched_codes");
        double over_isas = 0;
        for (const json& run : list(row, "per_isa")) {
            const auto there = number(run, "mismatched_codes");
            if (!there) continue;
            sum.measured = true;
            over_isas += *there;
            add_isa(text(run, "isa"));
            const int images = count(run, "images", sum.images);
            if (images < sum.images) {
                int& least = sum.part.try_emplace(text(run, "isa"), images).first->second;
                least = std::min(least, images);
            }
            if (number(run, "threads")) sum.threads.insert(count(run, "threads", 1));
        }
        if (mismatched) {
            sum.measured = true;
            add_isa(text(row, "isa"));
        }
        sum.mismatched += std::max(mismatched.value_or(0), over_isas);
        sum.checked += number(row, "checked_codes").value_or(0);
    }
    // The order in which the results name them.
    std::vector<std::string> order;
    for (const json& isa : list(at(results, "meta"), "isas"))
        if (isa.is_string()) order.push_back(isa.get<std::string>());
    std::stable_sort(sum.isas.begin(), sum.isas.end(), [&](const std::string& a, const std::string& b) {
        return std::find(order.begin(), order.end(), a) < std::find(order.begin(), order.end(), b);
    });
    return sum;
}

/// "scalar (the first 200 of 2,000 images), avx2 and avx512vnni, with 1 and 2 threads"
inline std::string where(const agreement& a) {
    const auto enumerate = [](const std::vector<std::string>& parts) {
        if (parts.size() < 2) return join(parts, "");
        return join({parts.begin(), parts.end() - 1}, ", ") + " and " + parts.back();
    };
    std::vector<std::string> threads;
    for (int t : a.threads) threads.push_back(std::to_string(t));
    std::vector<std::string> isas;
    for (const std::string& isa : a.isas) {
        const auto part = a.part.find(isa);
        isas.push_back(part == a.part.end()
                           ? isa
                           : isa + " (the first " + grouped(part->second) + " of " + grouped(a.images) + " images)");
    }
    std::string out = enumerate(isas);
    if (!threads.empty())
        out += ", with " + enumerate(threads) + (threads == std::vector<std::string>{"1"} ? " thread" : " threads");
    return out;
}

/// A warning if many timings scattered, as they do when other programs run beside; else empty.
inline std::string noise_warning(const json& results) {
    constexpr double calm = 0.15;
    int timings = 0, scattered = 0;
    for (const json& row : list(results, "rows"))
        for (const json& run : list(row, "per_isa"))
            for (const char* key : {"spread_b1", "spread_b64"})
                if (const auto spread = number(run, key)) {
                    ++timings;
                    scattered += *spread > calm;
                }
    if (scattered * 10 <= timings) return "";
    return "The machine was busy: in " + std::to_string(scattered) + " of " + std::to_string(timings) +
           " timings the middle half of the repetitions differ by more than " + fixed(calm * 100, 0) +
           "%. Do not trust these latencies and speed-ups.";
}

} // namespace mnist::report
