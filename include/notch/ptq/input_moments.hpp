// SPDX-License-Identifier: Apache-2.0
//
// notch/ptq/input_moments.hpp: what the methods that round weights by their effect need of a layer's
// inputs, H = sum of x x^T: with it the error of y = W x over all of them is known without them,
//
//     sum of |(W - Wq) x|^2 = trace (W - Wq) H (W - Wq)^T
//
// For a convolution the inputs are its patches (im2col), in the order of the weights. Needs Eigen.
#pragma once

#include <Eigen/Core>

#include <cmath>
#include <cstdint>
#include <span>

#include <notch/core/error.hpp>
#include <notch/core/view.hpp>
#include <notch/ptq/progress.hpp>
#include <notch/scheme/range.hpp>

NOTCH_KEYED_BEGIN

/// The sums of x x^T and of |x| of the inputs of a layer. merge is associative and independent of order but for the
/// rounding of doubles. Not thread-safe: one for each thread, then merge.
class input_moments {
public:
    explicit input_moments(index_t inputs) {
        detail::check_extent("input_moments", "inputs", inputs);
        sum_ = Eigen::MatrixXd::Zero(inputs, inputs);
        magnitudes_ = Eigen::VectorXd::Zero(inputs);
    }
    /// Rows of inputs. A row with a value that is not finite is counted and left out.
    void observe(matrix_view<const float> x) {
        detail::check_view("input_moments.observe", "x", x);
        detail::check_equal("input_moments.observe", "the number of columns of x", x.cols, inputs());
        constexpr index_t most = 256;
        Eigen::MatrixXd block(inputs(), most);
        for (index_t r = 0; r < x.rows;) {
            index_t n = 0;
            for (; r < x.rows && n < most; ++r) {
                bool finite = true;
                for (index_t c = 0; c < x.cols; ++c) {
                    block(c, n) = static_cast<double>(x(r, c));
                    finite = finite && std::isfinite(x(r, c));
                }
                if (finite)
                    ++n;
                else
                    ++skipped_;
            }
            sum_.selfadjointView<Eigen::Lower>().rankUpdate(block.leftCols(n));
            magnitudes_ += block.leftCols(n).cwiseAbs().rowwise().sum();
            rows_ += n;
        }
    }
    void merge(const input_moments& other) {
        detail::check_equal("input_moments.merge", "the number of inputs", other.inputs(), inputs());
        sum_ += other.sum_;
        magnitudes_ += other.magnitudes_;
        rows_ += other.rows_;
        skipped_ += other.skipped_;
    }
    [[nodiscard]] index_t inputs() const noexcept { return static_cast<index_t>(sum_.rows()); }
    [[nodiscard]] std::int64_t rows() const noexcept { return rows_; }
    [[nodiscard]] std::int64_t skipped() const noexcept { return skipped_; }
    /// The whole symmetric matrix.
    [[nodiscard]] Eigen::MatrixXd matrix() const { return sum_.selfadjointView<Eigen::Lower>(); }
    /// The mean of |x_j| over the rows for each input j; 0 before the first row.
    [[nodiscard]] Eigen::VectorXd mean_magnitudes() const {
        return magnitudes_ / static_cast<double>(rows_ > 0 ? rows_ : 1);
    }

private:
    Eigen::MatrixXd sum_; // its lower triangle
    Eigen::VectorXd magnitudes_;
    std::int64_t rows_ = 0, skipped_ = 0;
};

namespace detail {
/// The matrices and parameters of a method that chooses codes: w and codes are outputs x inputs, params has one entry
/// for all, or `groups` for each output.
template <range_type Range>
void check_rounding(const char* where, matrix_view<const float> w, const input_moments& x,
                    std::span<const quant_params> params, index_t groups,
                    matrix_view<typename Range::code_type> codes) {
    check_view(where, "w", w);
    check_view(where, "codes", codes);
    check_equal(where, "the number of columns of w", w.cols, x.inputs());
    check_equal(where, "the number of rows of codes", codes.rows, w.rows);
    check_equal(where, "the number of columns of codes", codes.cols, w.cols);
    if (params.size() != 1)
        check_equal(where, "the number of params", static_cast<index_t>(params.size()),
                    checked_product(where, w.rows, groups));
    for (const quant_params& p : params) check_params(where, "params", p, Range::qmin, Range::qmax);
}
} // namespace detail

/// The error of y over the inputs seen: sum over rows x of |(W - Wq) x|^2 = trace (W - Wq) H (W - Wq)^T.
[[nodiscard]] inline double output_error(matrix_view<const float> w, matrix_view<const float> w_quantized,
                                         const input_moments& x) {
    constexpr const char* where = "output_error";
    detail::check_view(where, "w", w);
    detail::check_view(where, "w_quantized", w_quantized);
    detail::check_equal(where, "the number of columns of w", w.cols, x.inputs());
    detail::check_equal(where, "the number of rows of w_quantized", w_quantized.rows, w.rows);
    detail::check_equal(where, "the number of columns of w_quantized", w_quantized.cols, w.cols);
    const Eigen::MatrixXd h = x.matrix();
    Eigen::VectorXd d(w.cols);
    double sum = 0;
    for (index_t r = 0; r < w.rows; ++r) {
        for (index_t c = 0; c < w.cols; ++c)
            d(c) = static_cast<double>(w(r, c)) - static_cast<double>(w_quantized(r, c));
        sum += d.dot(h * d);
    }
    return sum;
}

NOTCH_KEYED_END
