// SPDX-License-Identifier: Apache-2.0
//
// notch/layers/attention_layer.hpp: multi-head attention for training (Vaswani et al. 2017, arXiv:1706.03762, eq. 1),
// in fp32 and through its integer kernels. The tokens are the pixels of an image, the heads lie side by side in its
// channels; queries, keys and values come from three layers, such as linear_layer:
//
//   forward    P = softmax(scale Q K^T),  Y = P V             of every image and head
//              quantized: notch::attention on the codes       the codes of freeze(layer, q, k, v, keys)
//   backward   dV = P^T dZ,  dP = dZ V^T,  dS = P (dP - sum over the row of P dP),  dQ = scale dS K,  dK = scale dS^T Q
//              dZ = dY where the code of Y was not clipped    straight-through
//
// Backward takes the values that forward used: in phase::quantized the dequantized codes of Q, K and V, and for P the
// codes of the probabilities over 256. The range of Y follows what forward has seen, from the next forward on.
#pragma once

#include <Eigen/Core>

#include <cmath>
#include <cstdint>
#include <optional>
#include <span>

#include <notch/eigen/map.hpp>
#include <notch/layers/activation.hpp>
#include <notch/layers/attention.hpp>
#include <notch/observe/moving_average.hpp>
#include <notch/qat/fake_quant.hpp>

NOTCH_KEYED_BEGIN

/// Has no parameters. Not thread-safe. The activations given to forward must live until backward.
template <observer OutputObserver = moving_average> class attention_layer {
public:
    OutputObserver output_observer;
    std::optional<quant_params> fixed_params; ///< if set, instead of the observer's, which then sees nothing

    /// heads: at least 1, a divisor of the channels. causal: a token does not see the keys of later tokens.
    explicit attention_layer(index_t heads, bool causal = false, const OutputObserver& o = OutputObserver{})
        : output_observer(o), heads_(heads), causal_(causal) {
        if (heads < 1) fail(errc::invalid_argument, detail::cat("attention_layer: ", heads, " heads"));
    }

    [[nodiscard]] index_t heads() const noexcept { return heads_; }
    [[nodiscard]] bool causal() const noexcept { return causal_; }
    [[nodiscard]] quant_params output_params() const {
        return detail::output_params_of("attention_layer", fixed_params, output_observer.range());
    }
    /// What notch::attention needs to give the codes of this layer, for inputs with these parameters.
    [[nodiscard]] attention_spec spec(quant_params q, quant_params k, quant_params v, index_t keys,
                                      index_t channels) const {
        check_channels(channels);
        attention_spec s;
        s.heads = heads_;
        s.head_size = channels / heads_;
        s.keys = keys;
        s.q = q;
        s.k = k;
        s.v = v;
        s.y = output_params();
        s.causal = causal_;
        s.is_signed = false;
        return s;
    }

    /// y gets the shape of q; k and v have as many images and channels as q, and as many pixels as each other. training
    /// keeps what backward needs, and lets the range follow (quantized). There is no phase::dynamic.
    void forward(const activation& q, const activation& k, const activation& v, activation& y, phase p, bool training,
                 const context& ctx) {
        constexpr const char* where = "attention_layer";
        detail::check_phase(where, p);
        if (p == phase::dynamic) fail(errc::invalid_argument, "attention_layer: there is no phase::dynamic");
        for (const activation* x : {&q, &k, &v}) {
            detail::check_activation(where, *x);
            detail::check_equal(where, "the number of images of q, k or v", x->n, q.n);
            detail::check_equal(where, "the number of channels of q, k or v", x->c, q.c);
            if (x->quantized != (p == phase::quantized))
                fail(errc::invalid_argument, "attention_layer: q, k or v has codes where values are needed, or the "
                                             "reverse");
        }
        detail::check_equal(where, "the number of pixels of v", v.h * v.w, k.h * k.w);
        check_channels(q.c);
        if (causal_ && q.h * q.w > k.h * k.w)
            fail(errc::shape_mismatch,
                 detail::cat(where, ": ", q.h * q.w, " queries for ", k.h * k.w, " keys in causal attention"));
        if (k.h * k.w == 0) fail(errc::invalid_argument, "attention_layer: there are no keys");
        detail::shape_output(where, y, {&q, &k, &v}, q.n, q.h, q.w, q.c);
        trained_ = false; // until this forward has succeeded
        q_ = &q;
        k_ = &k;
        v_ = &v;
        images_ = q.n;
        queries_ = q.h * q.w;
        keys_ = k.h * k.w;
        channels_ = q.c;
        scale_ = static_cast<float>(1.0 / std::sqrt(static_cast<double>(q.c / heads_)));
        quantized_ = y.quantized = q.quantized;
        if (quantized_)
            forward_codes(y, training, ctx);
        else
            forward_values(y, p == phase::calibrate, training);
        trained_ = training;
    }

    /// dy: gradient of y, overwritten. Writes the gradients of q, k and v.
    void backward(std::span<float> dy, std::span<float> dq, std::span<float> dk, std::span<float> dv,
                  const context& ctx) {
        constexpr const char* where = "attention_layer.backward";
        if (!trained_)
            fail(errc::invalid_argument, "attention_layer: backward needs a forward with training = true before it");
        const index_t of_queries = images_ * queries_ * channels_, of_keys = images_ * keys_ * channels_;
        detail::check_equal(where, "the size of dy", static_cast<index_t>(dy.size()), of_queries);
        detail::check_equal(where, "the size of dq", static_cast<index_t>(dq.size()), of_queries);
        detail::check_equal(where, "the size of dk", static_cast<index_t>(dk.size()), of_keys);
        detail::check_equal(where, "the size of dv", static_cast<index_t>(dv.size()), of_keys);
        detail::check_equal(where, "the size of q of the last forward", q_->size(), of_queries);
        detail::check_equal(where, "the size of k of the last forward", k_->size(), of_keys);
        detail::check_equal(where, "the size of v of the last forward", v_->size(), of_keys);
        const std::span<const float> q = real_values(*q_, q_real_, ctx), k = real_values(*k_, k_real_, ctx),
                                     v = real_values(*v_, v_real_, ctx);
        if (quantized_) straight_through(dy, mask_, dy, ctx);
        row_major<float> ds;
        each_head([&](index_t image, index_t head, matrix_view<const float> p) {
            const auto dz = as_eigen(part(std::span<const float>(dy), image, head, queries_));
            const auto probability = as_eigen(p);
            as_eigen(part(dv, image, head, keys_)).noalias() = probability.transpose() * dz;
            ds.noalias() = dz * as_eigen(part(v, image, head, keys_)).transpose();
            const Eigen::VectorXf mean = ds.cwiseProduct(probability).rowwise().sum();
            ds = (scale_ * probability.array() * (ds.colwise() - mean).array()).matrix();
            as_eigen(part(dq, image, head, queries_)).noalias() = ds * as_eigen(part(k, image, head, keys_));
            as_eigen(part(dk, image, head, keys_)).noalias() =
                ds.transpose() * as_eigen(part(q, image, head, queries_));
        });
    }

private:
    void check_channels(index_t channels) const {
        if (channels < heads_ || channels % heads_ != 0)
            fail(errc::shape_mismatch, detail::cat("attention_layer: ", channels, " channels for ", heads_,
                                                   " heads, which must divide them"));
    }
    /// The columns of one head in the rows of one image.
    template <class T>
    [[nodiscard]] matrix_view<T> part(std::span<T> all, index_t image, index_t head, index_t rows) const {
        const index_t size = channels_ / heads_;
        return {all.data() + image * rows * channels_ + head * size, rows, size, channels_};
    }
    template <class F> void each_head(const F& f) const {
        for (index_t image = 0; image < images_; ++image)
            for (index_t head = 0; head < heads_; ++head)
                f(image, head,
                  matrix_view<const float>(p_.data() + (image * heads_ + head) * queries_ * keys_, queries_, keys_));
    }

    void forward_values(activation& y, bool observe, bool training) {
        y.values.resize_discard(y.size());
        p_.resize_discard(images_ * heads_ * queries_ * keys_);
        const std::span<const float> q = q_->values, k = k_->values, v = v_->values;
        for (index_t image = 0; image < images_; ++image)
            for (index_t head = 0; head < heads_; ++head) {
                auto p = as_eigen(
                    matrix_view<float>(p_.data() + (image * heads_ + head) * queries_ * keys_, queries_, keys_));
                p.noalias() = scale_ * as_eigen(part(q, image, head, queries_)) *
                              as_eigen(part(k, image, head, keys_)).transpose();
                for (index_t i = 0; i < queries_; ++i) {
                    const index_t seen = causal_ ? i + keys_ - queries_ + 1 : keys_;
                    auto row = p.row(i).head(seen).array();
                    row = (row - row.maxCoeff()).exp();
                    row /= row.sum();
                    p.row(i).tail(keys_ - seen).setZero();
                }
            }
        sum_values(v, y.values);
        if (observe && !fixed_params) output_observer.observe(y.values);
        if (!training) return;
        mask_.resize_discard(y.size());
    }
    /// P V.
    void sum_values(std::span<const float> v, std::span<float> to) const {
        each_head([&](index_t image, index_t head, matrix_view<const float> p) {
            as_eigen(part(to, image, head, queries_)).noalias() = as_eigen(p) * as_eigen(part(v, image, head, keys_));
        });
    }
    void forward_codes(activation& y, bool training, const context& ctx) {
        const attention frozen(spec(q_->params, k_->params, v_->params, keys_, channels_));
        const index_t need = frozen.workspace_size(queries_, ctx), each = heads_ * queries_ * keys_;
        if (workspace_.size() < need) workspace_ = buffer<std::byte>(need);
        context inner = ctx;
        inner.workspace = workspace_;
        y.params = frozen.spec().y;
        y.codes.resize_discard(y.size());
        if (training) codes_.resize_discard(images_ * each);
        for (index_t image = 0; image < images_; ++image) {
            const auto rows = [&](const activation& x, index_t n) {
                return matrix_view<const std::uint8_t>(x.codes.data() + image * n * channels_, n, channels_);
            };
            frozen.run(rows(*q_, queries_), rows(*k_, keys_), rows(*v_, keys_),
                       {y.codes.data() + image * queries_ * channels_, queries_, channels_}, inner,
                       training ? std::span(codes_.data() + image * each, static_cast<std::size_t>(each))
                                : std::span<std::uint8_t>());
        }
        if (!training) return;
        p_.resize_discard(codes_.size());
        dequantize<std::uint8_t>(codes_, {1.0f / 256.0f, 0}, p_, ctx);
        y_real_.resize_discard(y.size());
        sum_values(real_values(*v_, v_real_, ctx), y_real_);
        mask_.resize_discard(y.size());
        for (index_t i = 0; i < y.size(); ++i) {
            const float code = std::nearbyint(y_real_[i] / y.params.scale) + static_cast<float>(y.params.zero_point);
            mask_[i] = code >= 0.0f && code <= 255.0f;
        }
        if (!fixed_params) output_observer.observe(y_real_);
    }

    index_t heads_ = 1;
    bool causal_ = false;
    const activation *q_ = nullptr, *k_ = nullptr, *v_ = nullptr;
    index_t images_ = 0, queries_ = 0, keys_ = 0, channels_ = 0; ///< of the last forward
    float scale_ = 1.0f;
    bool quantized_ = false, trained_ = false;
    buffer<float> p_, y_real_, q_real_, k_real_, v_real_; ///< p_: [image][head][query][key]
    buffer<std::uint8_t> codes_, mask_;
    buffer<std::byte> workspace_;
};

/// The inference twin: the same codes for inputs with these parameters and so many keys, bit for bit.
template <observer O>
[[nodiscard]] attention freeze(const attention_layer<O>& layer, quant_params q, quant_params k, quant_params v,
                               index_t keys, index_t channels) {
    return attention(layer.spec(q, k, v, keys, channels));
}

NOTCH_KEYED_END
