// SPDX-License-Identifier: Apache-2.0
//
// notch/ptq/awq.hpp: activation-aware weight quantization (AWQ; Lin et al. 2023, arXiv:2306.00978): inputs that are
// large on average make the rounding errors of their weights felt. Such weights are scaled up before they are
// rounded in groups, the inputs down, so that the layer computes the same:
//
//     W x = (W diag(s)) (x / s),   s_j = mean|x_j|^alpha                                        (eq. 2 and 5)
//     alpha = the one of 0, 1/steps, ..., 1 with the least error of the output                 (eq. 4)
//     error = sum over the inputs seen of |W x - Q(W diag(s)) (x / s)|^2
//
// Then, optionally, the range of each group is cut to the part of it that costs the group's own outputs least. s is
// divided by the root of its largest times its least value, as in the authors' code (mit-han-lab/llm-awq), so that it
// changes the size of the weights little. The division of x goes into what makes x: smooth_source.
//
// What differs: the errors are those of all inputs at once, from their moments, so nothing is sampled; alpha = 1 is
// on the grid; and the ranges of an output that gets worse by cutting them stay whole. So the error is never larger
// than that of plain rounding in groups (alpha = 0). From the authors' code also: mean|x|^alpha has no floor of 1e-4;
// and that code does not cut the ranges of the projections to q and k, which must be asked for here: clip_steps = 0.
// Needs Eigen.
#pragma once

#include <Eigen/Core>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/core/view.hpp>
#include <notch/ptq/input_moments.hpp>
#include <notch/ref/quantize.hpp>
#include <notch/scheme/range.hpp>

NOTCH_KEYED_BEGIN

struct awq_options {
    index_t group = 128;     ///< inputs that share parameters, the last group may be shorter; 0: all of a row
    index_t steps = 20;      ///< of the grid of alpha, >= 1
    index_t clip_steps = 10; ///< of the search for the ranges of groups, >= 0; 0: they stay whole, as for q and k
    double least_clip = 0.5; ///< the least part of a range that is tried, in (0, 1]
};

/// What awq found. Errors are sums over outputs and inputs seen, as output_error gives them.
struct awq_result {
    double alpha = 0; ///< of the scales
    double plain = 0; ///< the error of plain rounding in groups
    double error = 0; ///< the error of the codes, not above plain but for the rounding of doubles
};

namespace detail {

/// The smallest and the largest of the weights of a group.
inline real_range awq_range(std::span<const float> w) noexcept {
    real_range seen;
    for (float v : w) seen = {std::min(seen.min, v), std::max(seen.max, v)};
    return seen;
}

/// The search of awq: some rows at a time, so that the differences of large layers need little memory.
template <range_type Range> class awq_search {
public:
    awq_search(matrix_view<const float> w, const input_moments& x, index_t group)
        : w_(w), h_(x.matrix()), group_(group), scaled_(w.cols), params_(groups()) {}

    [[nodiscard]] index_t groups() const noexcept { return w_.cols / group_ + (w_.cols % group_ != 0 ? 1 : 0); }
    [[nodiscard]] std::span<const float> scaled(index_t g) const noexcept {
        const index_t from = g * group_;
        return scaled_.span().subspan(static_cast<std::size_t>(from),
                                      static_cast<std::size_t>(std::min(group_, w_.cols - from)));
    }
    /// Makes W diag(s) of row r the one that scaled gives. Whether all of it is finite.
    bool scale(index_t r, std::span<const float> s) noexcept {
        bool finite = true;
        for (index_t c = 0; c < w_.cols; ++c) {
            scaled_[c] = w_(r, c) * s[static_cast<std::size_t>(c)];
            finite = finite && std::isfinite(scaled_[c]);
        }
        return finite;
    }
    /// w - dequantized / s for a group of row r.
    template <class Row>
    void differences(index_t r, index_t g, quant_params p, std::span<const float> s, Row&& d) const {
        for (index_t c = g * group_, k = 0; k < static_cast<index_t>(scaled(g).size()); ++c, ++k) {
            const std::int32_t code = ref::quantize(scaled_[c], p, {Range::qmin, Range::qmax});
            const double back = static_cast<double>(code - p.zero_point) * static_cast<double>(p.scale);
            d(k) = static_cast<double>(w_(r, c)) - back / static_cast<double>(s[static_cast<std::size_t>(c)]);
        }
    }
    /// The error of all outputs with whole ranges; infinity if a scaled weight overflows.
    [[nodiscard]] double error(std::span<const float> s) {
        constexpr index_t most = 64;
        Eigen::MatrixXd d(w_.cols, std::min(most, w_.rows));
        double sum = 0;
        for (index_t begin = 0; begin < w_.rows; begin += most) {
            const index_t count = std::min(most, w_.rows - begin);
            for (index_t r = 0; r < count; ++r) {
                if (!scale(begin + r, s)) return std::numeric_limits<double>::infinity();
                for (index_t g = 0; g < groups(); ++g)
                    differences(begin + r, g, params_from_range<Range>(awq_range(scaled(g))), s,
                                d.col(r).segment(g * group_, static_cast<index_t>(scaled(g).size())));
            }
            sum += (h_ * d.leftCols(count)).cwiseProduct(d.leftCols(count)).sum();
        }
        return sum;
    }
    /// The parameters of row r, which is the scaled one, cut or whole; and the error of its output. clip_steps > 0.
    [[nodiscard]] double choose(index_t r, std::span<const float> s, const awq_options& o,
                                std::span<quant_params> params) {
        Eigen::VectorXd whole(w_.cols), cut(w_.cols), d;
        for (index_t g = 0; g < groups(); ++g) {
            const index_t from = g * group_, count = static_cast<index_t>(scaled(g).size());
            const real_range range = awq_range(scaled(g));
            const auto own = h_.block(from, from, count, count);
            double least = std::numeric_limits<double>::infinity();
            d.resize(count);
            for (index_t i = 0; i <= o.clip_steps; ++i) {
                const double part =
                    1.0 - (1.0 - o.least_clip) * static_cast<double>(i) / static_cast<double>(o.clip_steps);
                const quant_params p =
                    params_from_range<Range>({static_cast<float>(static_cast<double>(range.min) * part),
                                              static_cast<float>(static_cast<double>(range.max) * part)});
                differences(r, g, p, s, d);
                const double e = d.dot(own * d);
                if (i == 0) {
                    params[static_cast<std::size_t>(g)] = p;
                    whole.segment(from, count) = d;
                }
                if (i == 0 || e < least) {
                    least = e;
                    params_[g] = p;
                    cut.segment(from, count) = d;
                }
            }
        }
        // Groups were looked at one by one: what they do to each other may be worse than before.
        const double before = whole.dot(h_ * whole), after = cut.dot(h_ * cut);
        if (!(after < before)) return before;
        for (index_t g = 0; g < groups(); ++g) params[static_cast<std::size_t>(g)] = params_[g];
        return after;
    }

private:
    matrix_view<const float> w_;
    Eigen::MatrixXd h_;
    index_t group_;
    buffer<float> scaled_; // a row of W diag(s)
    buffer<quant_params> params_;
};

/// The scales for an alpha. Inputs that were always 0 keep 1.
inline void awq_scales(const Eigen::VectorXd& magnitudes, double alpha, std::span<float> s) noexcept {
    double least = std::numeric_limits<double>::infinity(), most = 0;
    for (Eigen::Index j = 0; j < magnitudes.size(); ++j)
        if (magnitudes(j) > 0.0) {
            least = std::min(least, magnitudes(j));
            most = std::max(most, magnitudes(j));
        }
    const double middle = std::sqrt(least) * std::sqrt(most);
    for (std::size_t j = 0; j < s.size(); ++j) {
        const double m = magnitudes(static_cast<Eigen::Index>(j));
        s[j] = m > 0.0 ? static_cast<float>(std::clamp(std::pow(m / middle, alpha), static_cast<double>(FLT_MIN),
                                                       static_cast<double>(FLT_MAX)))
                       : 1.0f;
    }
}

} // namespace detail

/// Finds s (one for each input, finite and > 0), makes w, outputs x inputs, W diag(s), and quantizes it in groups:
/// codes like w, params row by row, outputs * ceil(inputs / group). Layers that read the same x share s: pass their
/// weights as one matrix, one below the other. progress(done, steps + 1) is called after each alpha. Takes (steps + 1)
/// * outputs * inputs^2 multiplications, and where clip_steps > 0 a final pass of outputs * inputs * (2 * inputs +
/// (clip_steps + 1) * min(group, inputs)).
///
/// What remains to do is x / s, in what makes x, by smooth_source; the moments of x are then no longer those of the
/// new inputs.
template <range_type Range, class Progress = detail::no_progress>
awq_result awq(matrix_view<float> w, const input_moments& x, std::span<float> s,
               matrix_view<typename Range::code_type> codes, std::span<quant_params> params, const awq_options& o = {},
               Progress&& progress = {}) {
    constexpr const char* where = "awq";
    detail::check_view(where, "w", w);
    detail::check_view(where, "codes", codes);
    if (o.group < 0 || o.steps < 1 || o.clip_steps < 0 || !(o.least_clip > 0.0 && o.least_clip <= 1.0))
        fail(errc::invalid_argument, detail::cat(where, ": group ", o.group, ", steps ", o.steps, ", clip_steps ",
                                                 o.clip_steps, ", least_clip ", o.least_clip));
    detail::check_equal(where, "the number of columns of w", w.cols, x.inputs());
    detail::check_equal(where, "the size of s", static_cast<index_t>(s.size()), w.cols);
    detail::check_equal(where, "the number of rows of codes", codes.rows, w.rows);
    detail::check_equal(where, "the number of columns of codes", codes.cols, w.cols);
    const index_t group = o.group == 0 ? std::max<index_t>(w.cols, 1) : o.group;
    detail::awq_search<Range> search(w, x, group);
    const index_t groups = search.groups();
    detail::check_equal(where, "the number of params", static_cast<index_t>(params.size()),
                        detail::checked_product(where, w.rows, groups));
    for (index_t r = 0; r < w.rows; ++r)
        for (index_t c = 0; c < w.cols; ++c)
            if (!std::isfinite(w(r, c)))
                fail(errc::invalid_argument, detail::cat(where, ": w(", r, ", ", c, ") is ", w(r, c)));

    awq_result found;
    const Eigen::VectorXd magnitudes = x.mean_magnitudes();
    for (index_t i = 0; i <= o.steps; ++i) {
        const double alpha = static_cast<double>(i) / static_cast<double>(o.steps);
        detail::awq_scales(magnitudes, alpha, s);
        const double error = search.error(s);
        if (i == 0) found.plain = found.error = error;
        if (error < found.error) {
            found.error = error;
            found.alpha = alpha;
        }
        progress(i + 1, o.steps + 1);
    }
    detail::awq_scales(magnitudes, found.alpha, s);
    if (o.clip_steps > 0) found.error = 0; // is counted again, row by row
    for (index_t r = 0; r < w.rows; ++r) {
        const auto row = params.subspan(static_cast<std::size_t>(r * groups), static_cast<std::size_t>(groups));
        (void)search.scale(r, s);
        if (o.clip_steps > 0)
            found.error += search.choose(r, s, o, row);
        else
            for (index_t g = 0; g < groups; ++g)
                row[static_cast<std::size_t>(g)] = params_from_range<Range>(detail::awq_range(search.scaled(g)));
        for (index_t g = 0; g < groups; ++g)
            for (index_t c = g * group; c < std::min((g + 1) * group, w.cols); ++c) {
                w(r, c) *= s[static_cast<std::size_t>(c)];
                codes(r, c) = static_cast<typename Range::code_type>(
                    ref::quantize(w(r, c), row[static_cast<std::size_t>(g)], {Range::qmin, Range::qmax}));
            }
    }
    return found;
}

NOTCH_KEYED_END
