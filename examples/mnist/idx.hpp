// SPDX-License-Identifier: Apache-2.0
//
// Reads the IDX files of MNIST, gzip-compressed or plain, through zlib.
//
//     images: 00 00 08 03 | count | height | width | one byte a pixel, row by row
//     labels: 00 00 08 01 | count | one byte each             (numbers are 32-bit, big-endian)
//
// A damaged file gives a notch::error that names it; sizes are checked before memory is taken, and
// the file is read to its end, where gzip keeps its checksum.
#pragma once

#include <zlib.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <notch/core/error.hpp>
#include <notch/core/types.hpp>

namespace mnist {

/// Grey images, 0..255, as [count][height][width]; labels 0..9.
struct dataset {
    std::vector<std::uint8_t> pixels;
    std::vector<std::uint8_t> labels;
    notch::index_t count = 0, height = 0, width = 0;

    /// Image i: height * width bytes.
    [[nodiscard]] const std::uint8_t* image(notch::index_t i) const { return pixels.data() + i * height * width; }
};

namespace detail {

class idx_file {
public:
    explicit idx_file(const std::string& path) : path_(path), file_(gzopen(path.c_str(), "rb")) {
        if (!file_) notch::fail(notch::errc::io, path + ": cannot be opened");
        (void)gzbuffer(file_.get(), 1u << 17);
    }
    std::uint32_t number() {
        std::uint8_t b[4];
        bytes(b, 4);
        return std::uint32_t{b[0]} << 24 | std::uint32_t{b[1]} << 16 | std::uint32_t{b[2]} << 8 | std::uint32_t{b[3]};
    }
    void bytes(std::uint8_t* out, unsigned count) {
        const int got = gzread(file_.get(), out, count);
        if (got < 0) damaged();
        if (static_cast<unsigned>(got) != count) notch::fail(notch::errc::corrupt, path_ + ": is truncated");
    }
    /// So many bytes, in steps: a size that lies costs no more memory than the file has bytes.
    std::vector<std::uint8_t> bytes(std::size_t count) {
        std::vector<std::uint8_t> all;
        while (all.size() < count) {
            const std::size_t step = std::min<std::size_t>(count - all.size(), 1u << 20);
            all.resize(all.size() + step);
            bytes(all.data() + all.size() - step, static_cast<unsigned>(step));
        }
        return all;
    }
    /// Nothing may follow; reading on to the end also makes zlib verify the checksum.
    void end() {
        std::uint8_t more = 0;
        const int got = gzread(file_.get(), &more, 1);
        if (got < 0) damaged();
        if (got > 0) notch::fail(notch::errc::corrupt, path_ + ": has more bytes than its sizes say");
        int state = Z_OK;
        (void)gzerror(file_.get(), &state);
        if (state != Z_OK) damaged();
        if (gzclose_r(file_.release()) != Z_OK) notch::fail(notch::errc::corrupt, path_ + ": is truncated");
    }
    [[nodiscard]] const std::string& path() const { return path_; }

private:
    struct closer {
        void operator()(gzFile file) const { (void)gzclose_r(file); }
    };
    [[noreturn]] void damaged() {
        int state = Z_OK;
        const char* text = gzerror(file_.get(), &state);
        notch::fail(state == Z_ERRNO ? notch::errc::io : notch::errc::corrupt,
                    path_ + ": cannot be unpacked: " + (text && *text ? text : "damaged"));
    }
    std::string path_;
    std::unique_ptr<gzFile_s, closer> file_;
};

inline void check_magic(idx_file& file, std::uint32_t expected, const char* what) {
    const std::uint32_t found = file.number();
    if (found != expected)
        notch::fail(notch::errc::corrupt, file.path() + ": is not an IDX file of " + what + " (it starts with " +
                                              std::to_string(found) + ", expected " + std::to_string(expected) + ")");
}

inline notch::index_t extent(idx_file& file, const char* what, std::uint32_t least, std::uint32_t most) {
    const std::uint32_t found = file.number();
    if (found < least || found > most)
        notch::fail(notch::errc::corrupt, file.path() + ": its " + what + " is " + std::to_string(found) +
                                              ", expected " + std::to_string(least) + ".." + std::to_string(most));
    return static_cast<notch::index_t>(found);
}

} // namespace detail

/// Reads a file of images and the file of their labels: any dataset in this format with images of at
/// most 1024 x 1024 pixels and at most 10 classes.
inline dataset read_idx(const std::string& images_path, const std::string& labels_path) {
    constexpr std::uint32_t max_count = 1'000'000, max_side = 1024;
    constexpr notch::index_t max_pixels = notch::index_t{1} << 30;
    dataset data;
    detail::idx_file images(images_path);
    detail::check_magic(images, 0x803, "images");
    data.count = detail::extent(images, "number of images", 1, max_count);
    data.height = detail::extent(images, "height", 1, max_side);
    data.width = detail::extent(images, "width", 1, max_side);
    if (data.count > max_pixels / (data.height * data.width))
        notch::fail(notch::errc::corrupt, images_path + ": has more than 2^30 pixels");
    data.pixels = images.bytes(static_cast<std::size_t>(data.count) * static_cast<std::size_t>(data.height) *
                               static_cast<std::size_t>(data.width));
    images.end();

    detail::idx_file labels(labels_path);
    detail::check_magic(labels, 0x801, "labels");
    const notch::index_t count = detail::extent(labels, "number of labels", 1, max_count);
    if (count != data.count)
        notch::fail(notch::errc::corrupt, labels_path + ": has " + std::to_string(count) + " labels for the " +
                                              std::to_string(data.count) + " images of " + images_path);
    data.labels = labels.bytes(static_cast<std::size_t>(count));
    labels.end();
    for (std::size_t i = 0; i < data.labels.size(); ++i)
        if (data.labels[i] > 9)
            notch::fail(notch::errc::corrupt, labels_path + ": label " + std::to_string(i) + " is " +
                                                  std::to_string(data.labels[i]) + ", expected 0..9");
    return data;
}

constexpr notch::index_t digit_side = 28, least_digits = 100;

/// One part ("train" or "test") of a folder of digits as the networks of the demo take them: 28 x 28 pixels, and enough
/// of them for a batch of every kind. Other data in the format (e.g. Fashion-MNIST) work if they are that.
inline dataset read_digits(const std::string& folder, const std::string& part) {
    const std::string images = folder + "/" + part + "-images-idx3-ubyte.gz";
    dataset data = read_idx(images, folder + "/" + part + "-labels-idx1-ubyte.gz");
    if (data.height != digit_side || data.width != digit_side)
        notch::fail(notch::errc::shape_mismatch, images + ": has images of " + std::to_string(data.height) + " x " +
                                                     std::to_string(data.width) +
                                                     " pixels, the networks of the demo take 28 x 28");
    if (data.count < least_digits)
        notch::fail(notch::errc::invalid_argument,
                    images + ": has " + std::to_string(data.count) + " images, the demo needs 100 or more");
    return data;
}

} // namespace mnist
