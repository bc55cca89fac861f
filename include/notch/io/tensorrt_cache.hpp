// SPDX-License-Identifier: Apache-2.0
//
// notch/io/tensorrt_cache.hpp: the calibration cache of TensorRT, a text file with one scale a tensor:
//
//     TRT-8601-EntropyCalibration2
//     input: 3c010a14
//     (Unnamed Layer* 0) [Convolution]_output: 3d1b2c40
//
// The first line is a title that TensorRT checks (version and calibrator). A line is a name, a colon, a
// space and the eight hexadecimal digits of the float32 scale, the most significant byte first. The scale
// is that of symmetric<8>: the largest magnitude is 127 * scale.
#pragma once

#include <bit>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/io/calibration_cache.hpp>
#include <notch/io/detail/file.hpp>
#include <notch/io/detail/safetensors_header.hpp>
#include <notch/scheme/range.hpp>

NOTCH_KEYED_BEGIN

/// Names and scales, and the title of the file. Not thread-safe to modify.
class tensorrt_cache {
public:
    /// title becomes the first line; it must be one line and not empty.
    explicit tensorrt_cache(std::string title = "TRT-8601-EntropyCalibration2") : title_(std::move(title)) {
        check_line(errc::invalid_argument, "tensorrt_cache", "title", title_);
        if (!title_.starts_with("TRT-"))
            fail(errc::invalid_argument, "tensorrt_cache: the title must begin with TRT-, as TensorRT's do");
    }

    /// Sets the scale of a tensor, which must be finite and > 0. The name must be one line and not empty.
    void put(const std::string& name, float scale) {
        check_line(errc::invalid_argument, "tensorrt_cache", "name", name);
        detail::check_scale("tensorrt_cache", detail::cat("the scale of ", detail::name_text(name)), scale);
        scales_[name] = scale;
    }
    /// An error if there is no tensor of this name.
    [[nodiscard]] float scale(std::string_view name) const {
        const auto at = scales_.find(name);
        if (at == scales_.end())
            fail(errc::invalid_argument, detail::cat("tensorrt_cache: no tensor ", detail::name_text(name),
                                                     " among its ", scales_.size(), " tensors"));
        return at->second;
    }
    /// The scale as parameters of symmetric<8>.
    [[nodiscard]] quant_params params(std::string_view name) const { return {scale(name), 0}; }
    [[nodiscard]] bool contains(std::string_view name) const { return scales_.find(name) != scales_.end(); }
    /// All of them, in order of their names.
    [[nodiscard]] const std::map<std::string, float, detail::name_less>& scales() const noexcept { return scales_; }
    [[nodiscard]] const std::string& title() const noexcept { return title_; }

    [[nodiscard]] std::string to_text() const {
        std::string text = title_ + "\n";
        for (const auto& [name, scale] : scales_) {
            text += name + ": ";
            for (int shift = 28; shift >= 0; shift -= 4)
                text += "0123456789abcdef"[std::bit_cast<std::uint32_t>(scale) >> shift & 15];
            text += "\n";
        }
        return text;
    }
    /// Reads the text of a file; label stands for its path in messages. errc::corrupt names the line: no
    /// title, a line without a scale, a scale that is not finite and > 0, two lines of one name. Lines may
    /// end with a carriage return, and the last without a line feed; empty lines are skipped.
    [[nodiscard]] static tensorrt_cache parse(std::string_view text, const std::string& label = "TensorRT cache") {
        std::int64_t number = 0;
        const auto next = [&] {
            const std::size_t end = text.find('\n');
            std::string_view line = text.substr(0, end);
            text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
            if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
            ++number;
            return line;
        };
        const std::string title(next());
        check_line(errc::corrupt, detail::cat(label, ": line 1"), "title", title);
        if (title.rfind("TRT-", 0) != 0)
            fail(errc::corrupt,
                 detail::cat(label, ": line 1 is ", detail::name_text(title), ", not the title of a TensorRT cache"));
        tensorrt_cache cache(title);
        while (!text.empty()) {
            const std::string_view line = next();
            if (line.empty()) continue;
            const std::string where = detail::cat(label, ": line ", number);
            // The name may hold colons; the scale has none.
            const std::size_t colon = line.rfind(':');
            if (colon == std::string_view::npos) fail(errc::corrupt, where + " has no colon");
            const std::string name(line.substr(0, colon));
            check_line(errc::corrupt, where, "name", name);
            std::string_view digits = line.substr(colon + 1);
            while (!digits.empty() && digits.front() == ' ') digits.remove_prefix(1);
            const float scale = std::bit_cast<float>(read_hex(digits, where));
            if (!(scale > 0.0f && scale <= FLT_MAX))
                fail(errc::corrupt, detail::cat(where, ": the scale of ", detail::name_text(name), " is ", scale,
                                                ", a scale must be finite and > 0"));
            if (!cache.scales_.emplace(name, scale).second)
                fail(errc::corrupt, detail::cat(where, ": two lines are called ", detail::name_text(name)));
        }
        return cache;
    }
    /// Writes a new file beside path and renames it to path. On an error (errc::io) what was at path stays.
    void save(const std::string& path) const {
        const std::string text = to_text();
        detail::write_file(path, std::as_bytes(std::span<const char>(text.data(), text.size())));
    }
    /// Reads a file. errc::io if it cannot be read or has more than max_bytes; else as parse.
    [[nodiscard]] static tensorrt_cache load(const std::string& path, std::uint64_t max_bytes = max_calibration_bytes) {
        const buffer<std::byte> bytes = detail::read_file(path, max_bytes, [](auto&&...) {});
        return parse({reinterpret_cast<const char*>(bytes.data()), static_cast<std::size_t>(bytes.size())}, path);
    }

private:
    static void check_line(errc code, const std::string& where, const char* what, std::string_view text) {
        if (text.empty()) fail(code, detail::cat(where, ": the ", what, " is empty"));
        if (text.find_first_of(std::string_view("\n\r\0", 3)) != std::string_view::npos)
            fail(code, detail::cat(where, ": the ", what, " ", detail::name_text(text), " is not one line of text"));
    }
    static std::uint32_t read_hex(std::string_view digits, const std::string& where) {
        std::uint32_t bits = 0;
        bool good = digits.size() == 8;
        for (const char c : digits) {
            const int digit = c >= '0' && c <= '9'   ? c - '0'
                              : c >= 'a' && c <= 'f' ? c - 'a' + 10
                              : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                     : -1;
            good = good && digit >= 0;
            bits = bits << 4 | static_cast<std::uint32_t>(digit & 15);
        }
        if (!good)
            fail(errc::corrupt,
                 detail::cat(where, ": ", detail::name_text(digits), " is not a scale of eight hexadecimal digits"));
        return bits;
    }
    std::string title_;
    std::map<std::string, float, detail::name_less> scales_;
};

NOTCH_KEYED_END
