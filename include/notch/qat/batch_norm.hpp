// SPDX-License-Identifier: Apache-2.0
//
// notch/qat/batch_norm.hpp: batch normalization over rows x channels, and folding it into the
// weights before it (Jacob et al. 2018, arXiv:1712.05877, section 3.2).
//
//   training    y = gamma * (x - mean) / sqrt(var + eps) + beta, mean and var of the batch;
//               running = (1 - momentum) * running + momentum * batch
//   folded      w'[c] = w[c] * gamma[c] / sqrt(running_var[c] + eps)
//               b'[c] = beta[c] + (b[c] - running_mean[c]) * gamma[c] / sqrt(running_var[c] + eps)
//
// Folding uses the running statistics, frozen: what is trained is then exactly what is shipped. They are those of the
// float weights, though; after training they can be estimated again from what the quantized weights give (Nagel et al.
// 2022, arXiv:2203.11086): mean and variance of all rows between begin_reestimation and end_reestimation.
#pragma once

#include <cmath>
#include <span>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/core/view.hpp>
#include <notch/scheme/granularity.hpp>

NOTCH_KEYED_BEGIN

/// Parameters, running statistics and what the backward pass needs. Not thread-safe. The buffers are
/// public, for optimizers and for what was trained elsewhere: every call checks that each still has
/// channels() values, and that running variances that it reads are finite and >= 0.
class batch_norm {
public:
    explicit batch_norm(index_t channels, float momentum = 0.1f, float eps = 1e-5f)
        : gamma(checked(channels)), beta(channels), gamma_gradient(channels), beta_gradient(channels),
          running_mean(channels), running_var(channels), momentum_(momentum), eps_(eps), mean_(channels),
          inverse_(channels) {
        if (!(eps > 0.0f && std::isfinite(eps)) || !(momentum > 0.0f && momentum <= 1.0f))
            fail(errc::invalid_argument, detail::cat("batch_norm: momentum ", momentum, ", eps ", eps));
        for (index_t c = 0; c < channels; ++c) gamma[c] = running_var[c] = 1.0f;
    }

    buffer<float> gamma, beta, gamma_gradient, beta_gradient, running_mean, running_var;

    [[nodiscard]] index_t channels() const noexcept { return mean_.size(); }
    /// gamma / sqrt(running_var + eps): the factor that folding multiplies into channel c < channels().
    /// Checks nothing.
    [[nodiscard]] float fold_factor(index_t c) const noexcept { return gamma[c] / std::sqrt(running_var[c] + eps_); }

    /// Normalizes x in place by the statistics of the batch and keeps the normalized values.
    void forward_training(matrix_view<float> x) {
        check("batch_norm.forward_training", "x", x);
        const index_t n = channels();
        normalized_.resize_discard(x.rows * n);
        if (x.rows == 0) return;
        const float share = 1.0f / static_cast<float>(x.rows);
        buffer<double> sum(n), square(n);
        for (index_t r = 0; r < x.rows; ++r)
            for (index_t c = 0; c < n; ++c) sum[c] += static_cast<double>(x(r, c));
        for (index_t c = 0; c < n; ++c) mean_[c] = static_cast<float>(sum[c]) * share;
        for (index_t r = 0; r < x.rows; ++r)
            for (index_t c = 0; c < n; ++c) {
                const float d = x(r, c) - mean_[c];
                square[c] += static_cast<double>(d * d);
            }
        for (index_t c = 0; c < n; ++c) {
            const float var = static_cast<float>(square[c]) * share;
            inverse_[c] = 1.0f / std::sqrt(var + eps_);
            const float unbiased = x.rows > 1 ? var * static_cast<float>(x.rows) / static_cast<float>(x.rows - 1) : var;
            running_mean[c] += momentum_ * (mean_[c] - running_mean[c]);
            running_var[c] += momentum_ * (unbiased - running_var[c]);
        }
        for (index_t r = 0; r < x.rows; ++r)
            for (index_t c = 0; c < n; ++c) {
                const float v = (x(r, c) - mean_[c]) * inverse_[c];
                normalized_[r * n + c] = v;
                x(r, c) = gamma[c] * v + beta[c];
            }
    }
    /// Normalizes x in place by the running statistics.
    void forward_inference(matrix_view<float> x) const {
        check("batch_norm.forward_inference", "x", x);
        check_variances("batch_norm.forward_inference");
        for (index_t r = 0; r < x.rows; ++r)
            for (index_t c = 0; c < channels(); ++c) x(r, c) = (x(r, c) - running_mean[c]) * fold_factor(c) + beta[c];
    }
    /// For the last forward_training: turns dy into dx in place and adds to the gradients.
    ///     dx = gamma * inverse / rows * (rows * dy - sum dy - normalized * sum (dy * normalized))
    void backward(matrix_view<float> dy) {
        check("batch_norm.backward", "dy", dy);
        if (normalized_.empty() && dy.rows * dy.cols != 0)
            fail(errc::invalid_argument, "batch_norm: backward needs a forward_training before it");
        detail::check_equal("batch_norm.backward", "the number of rows", dy.rows * channels(), normalized_.size());
        const index_t n = channels();
        if (dy.rows == 0) return;
        buffer<double> sum(n), product(n);
        for (index_t r = 0; r < dy.rows; ++r)
            for (index_t c = 0; c < n; ++c) {
                sum[c] += static_cast<double>(dy(r, c));
                product[c] += static_cast<double>(dy(r, c) * normalized_[r * n + c]);
            }
        buffer<float> a(n), b(n), f(n);
        const float share = 1.0f / static_cast<float>(dy.rows);
        for (index_t c = 0; c < n; ++c) {
            gamma_gradient[c] += static_cast<float>(product[c]);
            beta_gradient[c] += static_cast<float>(sum[c]);
            a[c] = static_cast<float>(sum[c]) * share;
            b[c] = static_cast<float>(product[c]) * share;
            f[c] = gamma[c] * inverse_[c];
        }
        for (index_t r = 0; r < dy.rows; ++r)
            for (index_t c = 0; c < n; ++c) dy(r, c) = f[c] * (dy(r, c) - a[c] - normalized_[r * n + c] * b[c]);
    }

    /// Begins statistics anew; the running ones stay as they are until end_reestimation.
    void begin_reestimation() {
        seen_mean_ = buffer<double>(channels());
        seen_square_ = buffer<double>(channels());
        seen_rows_ = 0;
        reestimating_ = true;
    }
    [[nodiscard]] bool reestimating() const noexcept { return reestimating_; }
    /// Adds the rows of x to the new statistics (Chan et al. 1979: the means and squares of two sets joined).
    void reestimate(matrix_view<const float> x) {
        check("batch_norm.reestimate", "x", x);
        if (!reestimating_) fail(errc::invalid_argument, "batch_norm: reestimate needs a begin_reestimation before it");
        if (x.rows == 0) return;
        const double n = static_cast<double>(x.rows), before = static_cast<double>(seen_rows_);
        for (index_t c = 0; c < channels(); ++c) {
            double mean = 0, square = 0;
            for (index_t r = 0; r < x.rows; ++r) mean += static_cast<double>(x(r, c));
            mean /= n;
            for (index_t r = 0; r < x.rows; ++r) {
                const double d = static_cast<double>(x(r, c)) - mean;
                square += d * d;
            }
            const double apart = mean - seen_mean_[c];
            seen_mean_[c] += apart * n / (before + n);
            seen_square_[c] += square + apart * apart * before * n / (before + n);
        }
        seen_rows_ += x.rows;
    }
    /// The new statistics become the running ones. An error, which changes nothing, if no row was seen or if they are
    /// not finite.
    void end_reestimation() {
        constexpr const char* where = "batch_norm.end_reestimation";
        check_buffers(where);
        if (!reestimating_ || seen_rows_ == 0)
            fail(errc::invalid_argument, detail::cat(where, ": no rows were seen since begin_reestimation"));
        const double share = 1.0 / static_cast<double>(seen_rows_ > 1 ? seen_rows_ - 1 : 1);
        for (index_t c = 0; c < channels(); ++c)
            if (!std::isfinite(static_cast<float>(seen_mean_[c])) ||
                !std::isfinite(static_cast<float>(seen_square_[c] * share)))
                fail(errc::invalid_argument, detail::cat(where, ": the statistics of channel ", c, " are not finite"));
        for (index_t c = 0; c < channels(); ++c) {
            running_mean[c] = static_cast<float>(seen_mean_[c]);
            running_var[c] = static_cast<float>(seen_square_[c] * share);
        }
        reestimating_ = false;
    }

    /// Folded weights and bias. layout says where the output channels of w are; b may be empty (0).
    /// w and w_folded have layout.size() values, b and b_folded channels().
    void fold(std::span<const float> w, const channel_layout& layout, std::span<const float> b,
              std::span<float> w_folded, std::span<float> b_folded) const {
        constexpr const char* where = "batch_norm.fold";
        check(where, layout, w.size(), w_folded.size(), b.size(), b_folded.size());
        detail::check_span(where, "w", w);
        detail::check_span(where, "b", b);
        detail::check_span(where, "w_folded", w_folded);
        detail::check_span(where, "b_folded", b_folded);
        for (index_t i = 0; i < layout.size(); ++i)
            w_folded[static_cast<std::size_t>(i)] =
                w[static_cast<std::size_t>(i)] * fold_factor(i / layout.inner % layout.channels);
        for (index_t c = 0; c < channels(); ++c) {
            const float before = b.empty() ? 0.0f : b[static_cast<std::size_t>(c)];
            b_folded[static_cast<std::size_t>(c)] = beta[c] + (before - running_mean[c]) * fold_factor(c);
        }
    }
    /// The gradients of fold: adds to dw, db (may be empty), gamma_gradient and beta_gradient. The
    /// running statistics are constants.
    void fold_backward(std::span<const float> w, const channel_layout& layout, std::span<const float> b,
                       std::span<const float> dw_folded, std::span<const float> db_folded, std::span<float> dw,
                       std::span<float> db) {
        constexpr const char* where = "batch_norm.fold_backward";
        check(where, layout, w.size(), dw_folded.size(), b.size(), db_folded.size());
        detail::check_equal(where, "the size of dw", static_cast<index_t>(dw.size()), layout.size());
        if (!db.empty()) detail::check_equal(where, "the size of db", static_cast<index_t>(db.size()), channels());
        detail::check_span(where, "w", w);
        detail::check_span(where, "b", b);
        detail::check_span(where, "dw_folded", dw_folded);
        detail::check_span(where, "db_folded", db_folded);
        detail::check_span(where, "dw", dw);
        detail::check_span(where, "db", db);
        for (index_t i = 0; i < layout.size(); ++i) {
            const index_t c = i / layout.inner % layout.channels;
            const auto at = static_cast<std::size_t>(i);
            dw[at] += dw_folded[at] * fold_factor(c);
            gamma_gradient[c] += dw_folded[at] * w[at] / std::sqrt(running_var[c] + eps_);
        }
        for (index_t c = 0; c < channels(); ++c) {
            const auto at = static_cast<std::size_t>(c);
            const float before = b.empty() ? 0.0f : b[at];
            beta_gradient[c] += db_folded[at];
            gamma_gradient[c] += db_folded[at] * (before - running_mean[c]) / std::sqrt(running_var[c] + eps_);
            if (!db.empty()) db[at] += db_folded[at] * fold_factor(c);
        }
    }

private:
    static index_t checked(index_t channels) {
        detail::check_extent("batch_norm", "channels", channels);
        return channels;
    }
    /// The buffers are public: they may have been replaced, but not by others of another size.
    void check_buffers(const char* where) const {
        const struct {
            const char* what;
            const buffer<float>& values;
        } buffers[] = {{"the size of gamma", gamma},
                       {"the size of beta", beta},
                       {"the size of gamma_gradient", gamma_gradient},
                       {"the size of beta_gradient", beta_gradient},
                       {"the size of running_mean", running_mean},
                       {"the size of running_var", running_var}};
        for (const auto& b : buffers) detail::check_equal(where, b.what, b.values.size(), channels());
    }
    void check_variances(const char* where) const {
        for (index_t c = 0; c < channels(); ++c)
            if (!(running_var[c] >= 0.0f) || !std::isfinite(running_var[c]))
                fail(errc::invalid_argument, detail::cat(where, ": running_var[", c, "] is ", running_var[c],
                                                         ", a variance must be finite and >= 0"));
    }
    void check(const char* where, const char* name, matrix_view<const float> x) const {
        check_buffers(where);
        detail::check_view(where, name, x);
        detail::check_equal(where, {"the number of channels of ", name}, x.cols, channels());
    }
    void check(const char* where, const channel_layout& layout, std::size_t w, std::size_t w_folded, std::size_t b,
               std::size_t b_folded) const {
        check_buffers(where);
        check_variances(where);
        detail::check_channel_layout(where, layout);
        detail::check_equal(where, "the number of output channels", layout.channels, channels());
        detail::check_equal(where, "the size of w", static_cast<index_t>(w), layout.size());
        detail::check_equal(where, "the size of the folded weights", static_cast<index_t>(w_folded), layout.size());
        if (b != 0) detail::check_equal(where, "the size of b", static_cast<index_t>(b), channels());
        detail::check_equal(where, "the size of the folded bias", static_cast<index_t>(b_folded), channels());
    }
    float momentum_, eps_;
    buffer<float> mean_, inverse_, normalized_;
    buffer<double> seen_mean_, seen_square_; ///< of reestimate: means, sums of squared distances from them
    index_t seen_rows_ = 0;
    bool reestimating_ = false;
};

NOTCH_KEYED_END
