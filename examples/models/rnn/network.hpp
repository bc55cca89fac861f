// SPDX-License-Identifier: Apache-2.0
//
// A classifier of sequences: a recurrent layer, and a linear one on the h after the last step of each sequence.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include <notch/layers/recurrent.hpp>
#include <notch/layers/train.hpp>

#include "data.hpp"
#include "saved.hpp"

namespace rnn {

using notch::buffer;
using notch::phase;

template <class Cell, class Weights> struct classifier {
    notch::recurrent_layer<Cell, Weights> cell;
    notch::linear_layer<Weights> head;
    activation h, last, logits;
    std::vector<index_t> lengths;
    buffer<float> d_h, d_last;

    classifier(index_t channels, index_t hidden, index_t classes)
        : cell(channels, hidden), head(hidden, classes, {.float_output = true}) {}

    /// Where the h after the last step of sequence i begins.
    [[nodiscard]] index_t end_of(index_t i) const { return (i * h.w + lengths[static_cast<std::size_t>(i)] - 1) * h.c; }
    const activation& forward(const activation& x, const std::vector<index_t>& lengths_of, phase p, bool training,
                              const context& ctx) {
        lengths = lengths_of;
        cell.forward(x, h, p, training, ctx);
        last.reshape(h.n, 1, 1, h.c);
        last.quantized = h.quantized;
        last.params = h.params;
        (h.quantized ? last.codes.resize_discard(last.size()) : last.values.resize_discard(last.size()));
        for (index_t i = 0; i < h.n; ++i)
            if (h.quantized)
                std::copy_n(h.codes.data() + end_of(i), h.c, last.codes.data() + i * h.c);
            else
                std::copy_n(h.values.data() + end_of(i), h.c, last.values.data() + i * h.c);
        head.forward(last, logits, p, training, ctx);
        return logits;
    }
    void backward(std::span<float> gradient, const context& ctx) {
        d_last.resize_discard(last.size());
        head.backward(gradient, d_last, ctx);
        d_h.resize_discard(h.size());
        std::fill(d_h.begin(), d_h.end(), 0.0f);
        for (index_t i = 0; i < h.n; ++i) std::copy_n(d_last.data() + i * h.c, h.c, d_h.data() + end_of(i));
        cell.backward(d_h, {}, ctx);
    }
    template <class F> void layers(F&& f) {
        f("cell", cell);
        f("head", head);
    }
    template <class F> void observed(F&&) {}
    template <class Other> void copy_from(const Other& o) {
        cell.copy_from(o.cell);
        head.copy_from(o.head);
    }
};

/// What ships: frames of codes in, logits out.
template <class Cell> struct frozen_classifier {
    notch::frozen_recurrent<Cell> cell;
    notch::frozen_linear head;
    std::vector<std::byte> memory;
    std::vector<std::uint8_t> h;
    std::vector<std::int32_t> state;
    std::int64_t bytes = 0;

    template <class Weights> frozen_classifier(classifier<Cell, Weights>& net, notch::quant_params x) {
        notch::model_writer out("classifier");
        notch::save_recurrent<Cell>(out, "cell", net.cell.spec(x));
        notch::save_layer(out, "head", net.head.spec(net.cell.output_params()));
        const auto file = notch::model_file::parse(out.to_bytes());
        bytes = tensor_bytes(file);
        cell = notch::frozen_recurrent<Cell>(notch::load_recurrent<Cell>(file, "cell"));
        head = notch::frozen_linear(notch::load_layer(file, "head"));
    }

    /// A whole batch: the codes of all h.
    void run(const activation& x, std::vector<std::uint8_t>& codes, context ctx) {
        reserve(x.n, x.w);
        codes.resize(static_cast<std::size_t>(x.n * x.w * cell.spec().hidden));
        ctx.workspace = memory;
        cell.forward(x.code_view(), notch::nhwc_view<std::uint8_t>(codes.data(), x.n, 1, x.w, cell.spec().hidden), ctx);
    }
    /// One sequence, step by step, and the logits after its last step. visit(t, h) sees each step.
    template <class Visit>
    void stream(const std::uint8_t* x, index_t steps, std::span<float> logits, context ctx, const Visit& visit) {
        const index_t hidden = cell.spec().hidden, in = cell.spec().in_channels;
        reserve(1, 1);
        ctx.workspace = memory;
        const notch::matrix_view<std::uint8_t> now(h.data(), 1, hidden);
        const notch::matrix_view<std::int32_t> states(state.data(), 1, hidden);
        cell.start(states, now);
        for (index_t t = 0; t < steps; ++t) {
            cell.step({x + t * in, 1, in}, states, now, ctx);
            visit(t, h.data());
        }
        logits_of(h.data(), logits, ctx);
    }
    void logits_of(const std::uint8_t* codes, std::span<float> logits, context ctx) {
        ctx.workspace = memory;
        head.forward(notch::nhwc_view<const std::uint8_t>(codes, 1, 1, 1, cell.spec().hidden),
                     notch::nhwc_view<float>(logits.data(), 1, 1, 1, head.spec().out_channels), ctx);
    }

private:
    void reserve(index_t n, index_t steps) {
        const auto need =
            static_cast<std::size_t>(std::max(cell.workspace_size(n, steps), head.workspace_size(n, 1, 1, context())));
        if (memory.size() < need) memory.resize(need);
        h.resize(static_cast<std::size_t>(cell.spec().hidden));
        state.resize(h.size());
    }
};

} // namespace rnn
