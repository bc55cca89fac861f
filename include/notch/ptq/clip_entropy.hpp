// SPDX-License-Identifier: Apache-2.0
//
// notch/ptq/clip_entropy.hpp: the threshold at which the quantized distribution loses least information,
// by the algorithm that TensorRT published (S. Migacz, 8-bit Inference with TensorRT, GTC 2017). From a
// histogram of magnitudes, for every i from the number of levels to the number of bins:
//
//     P = bins 0 ... i-1, the counts of all bins beyond added to bin i-1
//     Q = bins 0 ... i-1 as they are, joined to `levels` levels; the sum of a level spread evenly over
//         those of its bins that are not empty
//     D(i) = sum of P log(P / Q), both scaled to a sum of 1; infinite if Q is 0 where P is not
//
//     threshold = (i + 1/2) * width for the i of the least D (of equal ones the largest), within max|x|
//
// The publication leaves open how i bins divide into levels: bin j belongs to level floor(j * levels / i). And it says
// nothing of zeros, which are half of the values behind a ReLU and more in padding and background. Real 0 is a code
// whatever the threshold, so they say nothing about it, yet D would be least where the level of 0 is narrowest. As in
// the calibrator of NVIDIA's pytorch-quantization, the bin of 0 counts as its neighbour. Other values that are as
// common, such as what a constant background gives, still draw the threshold down.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/observe/histogram.hpp>
#include <notch/ptq/clip_percentile.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

/// D(i). beyond is the sum of the bins from i on, total that of all.
inline double divergence(std::span<const std::int64_t> bins, index_t i, index_t levels, double beyond,
                         double total) noexcept {
    const auto kept = total - beyond; // the sum of Q before it is scaled
    if (kept == 0.0) return std::numeric_limits<double>::infinity();
    double sum = 0;
    index_t j = 0;
    for (index_t level = 0; level < levels; ++level) {
        // Bins with floor(j * levels / i) = level end before ceil((level + 1) * i / levels).
        const index_t begin = j, end = ((level + 1) * i + levels - 1) / levels;
        double joined = 0;
        index_t filled = 0;
        for (; j < end; ++j) {
            joined += static_cast<double>(bins[static_cast<std::size_t>(j)]);
            filled += bins[static_cast<std::size_t>(j)] != 0 ? 1 : 0;
        }
        const double q = filled == 0 ? 0.0 : joined / (static_cast<double>(filled) * kept);
        for (index_t b = begin; b < end; ++b) {
            const auto count = static_cast<double>(bins[static_cast<std::size_t>(b)]);
            const double p = (count + (b == i - 1 ? beyond : 0.0)) / total;
            if (p == 0.0) continue;
            if (count == 0.0) return std::numeric_limits<double>::infinity();
            sum += p * std::log(p / q);
        }
    }
    return sum;
}

} // namespace detail

/// The threshold for magnitudes on so many levels (128 for symmetric<8>; at least 2). The histogram may
/// hold both signs; 0 must lie between two bins. Of more than 8192 bins of magnitudes neighbours are joined,
/// since the time grows with the square of their number. With no more bins of magnitudes than levels nothing can
/// be compared, and the result is max|x|: take at least ten bins a level. 0 if there are no values.
[[nodiscard]] inline float entropy_magnitude(const histogram_view& h, index_t levels) {
    constexpr const char* where = "entropy_magnitude";
    if (levels < 2 || levels > 65536)
        fail(errc::invalid_argument, detail::cat(where, ": ", levels, " levels, must be 2..65536"));
    detail::check_view(where, h);
    if (h.counts.empty()) return 0.0f;
    const auto m = detail::fold_magnitudes(where, h);
    const index_t all = m.first + m.counts.size(), factor = (all + 8191) / 8192, count = (all + factor - 1) / factor;
    const double width = m.width * static_cast<double>(factor);
    buffer<std::int64_t> joined(count);
    for (index_t k = 0; k < m.counts.size(); ++k) joined[(m.first + k) / factor] += m.counts[k];
    bool beside = false; // values in another bin than that of 0
    for (index_t k = 1; k < count; ++k) beside = beside || joined[k] != 0;
    if (beside) joined[0] = joined[1];
    const auto bins = joined.span();
    double total = 0;
    for (std::int64_t c : bins) total += static_cast<double>(c);
    double least = std::numeric_limits<double>::infinity(), beyond = 0;
    index_t best = count;
    for (index_t i = count; i >= levels; --i) {
        if (i < count) beyond += static_cast<double>(bins[static_cast<std::size_t>(i)]);
        const double d = detail::divergence(bins, i, levels, beyond, total);
        if (d < least) {
            least = d;
            best = i;
        }
    }
    const double threshold = (static_cast<double>(best) + 0.5) * width;
    return threshold < static_cast<double>(m.range.max) ? static_cast<float>(threshold) : m.range.max;
}

NOTCH_KEYED_END
