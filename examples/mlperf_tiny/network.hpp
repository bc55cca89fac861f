// SPDX-License-Identifier: Apache-2.0
//
// A network of TensorFlow Lite's int8 operators on notch's kernels: one plain struct for each operator, which holds its
// packed weights, its epilogue and views of its input and output, and a list of them in the order of execution. What
// is shared with other programs is in the library; copy this and change it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <notch/io/tflite.hpp>
#include <notch/kernels/conv.hpp>
#include <notch/kernels/depthwise.hpp>
#include <notch/kernels/gemm.hpp>
#include <notch/kernels/tflite.hpp>
#include <notch/ref/tflite_pool.hpp>
#include <notch/ref/tflite_softmax.hpp>

namespace mlperf {

namespace tflite = notch::tflite;
using notch::index_t;
using codes = std::span<std::int8_t>;
using image = notch::nhwc_view<std::int8_t>;
using rows = notch::matrix_view<std::int8_t>;

// --- the layers ----------------------------------------------------------------------------------

struct convolution {
    image x, y;
    notch::packed_weights w;
    notch::epilogue<std::int8_t> ep;
    void run(const notch::context& ctx) { notch::conv2d(x, w, ep, y, ctx); }
    [[nodiscard]] index_t workspace() const { return notch::conv2d_workspace_size(w, x.n, x.h, x.w); }
};
struct depthwise {
    image x, y;
    notch::packed_depthwise w;
    notch::epilogue<std::int8_t> ep;
    void run(const notch::context& ctx) { notch::depthwise(x, w, ep, y, ctx); }
    [[nodiscard]] index_t workspace() const { return notch::depthwise_workspace_size(w, x.n, x.h, x.w); }
};
struct fully_connected {
    rows x, y;
    notch::packed_weights w;
    notch::epilogue<std::int32_t> ep;
    tflite::rescale_params rescale;
    std::vector<std::int32_t> acc;
    void run(const notch::context& ctx) {
        const notch::matrix_view<std::int32_t> sums(acc.data(), y.rows, y.cols);
        notch::gemm(x, w, ep, sums, ctx);
        tflite::rescale(sums, rescale, y);
    }
};
struct add {
    codes a, b, y;
    tflite::add_params params;
    void run(const notch::context& ctx) { tflite::add(a, b, params, y, ctx); }
};
struct pool {
    image x, y;
    notch::window window;
    notch::code_range range;
    bool max = false;
    void run(const notch::context&) {
        if (max)
            tflite::max_pool(x, window, y, range);
        else
            tflite::average_pool(x, window, y, range);
    }
};
struct mean {
    image x;
    rows y;
    tflite::mean_params params;
    void run(const notch::context&) { tflite::mean(x, params, y); }
};
struct softmax {
    rows x, y;
    tflite::softmax_params params;
    void run(const notch::context&) { tflite::softmax(x, params, y); }
};
struct requantize {
    codes x, y;
    notch::quant_params x_params, y_params;
    void run(const notch::context&) { tflite::requantize(x, x_params, y_params, y); }
};
struct reshape {
    codes x, y;
    void run(const notch::context&) { std::memcpy(y.data(), x.data(), y.size()); }
};
/// Zeros around an image.
struct pad {
    image x, inside; ///< inside: the part of y that x fills
    codes y;
    std::int8_t zero = 0;
    void run(const notch::context&) {
        std::fill(y.begin(), y.end(), zero);
        for (index_t n = 0; n < x.n; ++n)
            for (index_t h = 0; h < x.h; ++h)
                for (index_t w = 0; w < x.w; ++w) std::copy_n(&x(n, h, w, 0), x.c, &inside(n, h, w, 0));
    }
};
using layer = std::variant<convolution, depthwise, fully_connected, add, pool, mean, softmax, requantize, reshape, pad>;

// --- from operators to layers --------------------------------------------------------------------

class network {
public:
    /// Takes the memory of all tensors and packs all weights. A notch::error that names the operator if it has no int8
    /// kernel here or its tensors do not fit it.
    explicit network(const tflite::model& m) : model_(m), memory_(m.main().tensors.size()) {
        const tflite::graph& g = m.main();
        if (g.inputs.size() != 1 || g.outputs.size() != 1) refuse("the graph has more than one input or output");
        allocate(g.inputs[0]);
        for (const tflite::op& o : g.operators) {
            here_ = notch::detail::cat("operator ", layers_.size(), " ", to_string(o.code));
            if (o.outputs.size() != 1 || o.inputs.empty()) refuse("has no input, or not one output");
            (void)of(o.inputs[0]); // computed before
            allocate(o.outputs[0]);
            layers_.push_back(make(o));
            written_.push_back(o.outputs[0]);
        }
        (void)of(g.outputs[0]);
    }

    void run(notch::isa target = notch::default_isa()) {
        const notch::context ctx(target, {}, workspace_);
        for (layer& l : layers_) std::visit([&](auto& one) { one.run(ctx); }, l);
    }
    [[nodiscard]] codes input() { return memory_[at(model_.main().inputs[0])]; }
    [[nodiscard]] codes output() { return memory_[at(model_.main().outputs[0])]; }
    /// The codes of a tensor, of those that operators write.
    [[nodiscard]] codes of(index_t tensor) {
        const codes c = memory_[at(tensor)];
        if (c.empty()) refuse(notch::detail::cat("needs tensor ", tensor, ", which nothing has computed").c_str());
        return c;
    }
    [[nodiscard]] const std::vector<index_t>& written() const { return written_; }
    [[nodiscard]] std::size_t size() const { return layers_.size(); }

private:
    [[noreturn]] void refuse(const char* what) const {
        notch::fail(notch::errc::unsupported, notch::detail::cat(model_.label(), ": ", here_, ": ", what));
    }
    std::size_t at(index_t tensor) const {
        (void)model_.at(tensor); // an index of a tensor
        return static_cast<std::size_t>(tensor);
    }
    void allocate(index_t tensor) {
        const tflite::tensor& t = model_.at(tensor);
        if (t.type != tflite::element::i8) refuse("a tensor is not int8");
        if (!memory_[at(tensor)].empty() || !t.data.empty()) refuse("a tensor is written twice");
        if (t.size() < 1 || t.size() > index_t{1} << 28) refuse("a tensor is empty or very large");
        memory_[at(tensor)].resize(static_cast<std::size_t>(t.size()));
    }
    image as_image(index_t tensor) {
        const auto& s = model_.at(tensor).shape;
        if (s.size() != 4) refuse("a tensor is not an image");
        return {of(tensor).data(), s[0], s[1], s[2], s[3]};
    }
    rows as_rows(index_t tensor, index_t cols) {
        const index_t size = model_.at(tensor).size();
        if (cols < 1 || size % cols != 0) refuse("the number of columns does not fit");
        return {of(tensor).data(), size / cols, cols};
    }
    notch::quant_params params(index_t tensor) const { return model_.at(tensor).params(); }

    /// Shape of the weights; their zero points must be 0.
    const std::vector<index_t>& weight_shape(index_t tensor, std::size_t rank) const {
        const tflite::tensor& t = model_.at(tensor);
        if (t.shape.size() != rank) refuse("the weights have another rank");
        for (std::int32_t z : t.zero_points)
            if (z != 0) refuse("the weights have a zero point");
        return t.shape;
    }
    std::span<const std::int32_t> bias(const tflite::op& o) const {
        if (o.inputs.size() < 3 || o.inputs[2] < 0) return {};
        return model_.constant<std::int32_t>(o.inputs[2]);
    }
    static notch::window window_of(index_t kernel_h, index_t kernel_w, const auto& options) {
        notch::window s;
        s.kernel_h = kernel_h;
        s.kernel_w = kernel_w;
        s.stride_h = options.stride_h;
        s.stride_w = options.stride_w;
        return s;
    }

    layer make(const tflite::op& o) {
        using code = tflite::op_code;
        const index_t x = o.inputs[0], y = o.outputs[0];
        const auto input = [&](std::size_t i) {
            if (i >= o.inputs.size()) refuse("an input is missing");
            return o.inputs[i];
        };
        switch (o.code) {
        case code::conv_2d:
        case code::depthwise_conv_2d: {
            const auto& options = std::get<tflite::conv_options>(o.options);
            const auto& shape = weight_shape(input(1), 4);
            const image in = as_image(x), out = as_image(y);
            notch::window s = window_of(shape[1], shape[2], options);
            s.dilation_h = options.dilation_h;
            s.dilation_w = options.dilation_w;
            s = tflite::padded(s, options.pad, in.h, in.w);
            const auto weights = model_.constant<std::int8_t>(input(1));
            const auto& scales = model_.at(input(1)).scales;
            if (o.code == code::conv_2d) {
                if (shape[3] < 1 || in.c % shape[3] != 0) refuse("the channels do not fit the weights");
                convolution l{in, out, notch::pack_conv2d(weights, shape[0], in.c, s, in.c / shape[3]), {}};
                l.ep = tflite::make_conv_epilogue(l.w, params(x), scales, bias(o), params(y), options.fused);
                grow(l.workspace());
                return l;
            }
            if (in.c < 1 || shape[3] % in.c != 0) refuse("the channels do not fit the weights");
            depthwise l{in, out, notch::pack_depthwise(weights, in.c, s, shape[3] / in.c), {}};
            l.ep = tflite::make_conv_epilogue(l.w, params(x), scales, bias(o), params(y), options.fused);
            grow(l.workspace());
            return l;
        }
        case code::fully_connected: {
            const auto& options = std::get<tflite::fully_connected_options>(o.options);
            const auto& shape = weight_shape(input(1), 2);
            const auto weights = model_.constant<std::int8_t>(input(1));
            fully_connected l{as_rows(x, shape[1]),
                              as_rows(y, shape[0]),
                              notch::pack({weights.data(), shape[0], shape[1]}),
                              {},
                              {},
                              {}};
            l.ep = tflite::make_accumulators(l.w, params(x).zero_point, bias(o));
            l.rescale = tflite::make_rescale(params(x), model_.at(input(1)).scales, params(y), options.fused);
            l.acc.resize(static_cast<std::size_t>(l.y.rows * l.y.cols));
            return l;
        }
        case code::add:
            return add{of(x), of(input(1)), of(y),
                       tflite::make_add(params(x), params(input(1)), params(y),
                                        std::get<tflite::binary_options>(o.options).fused)};
        case code::average_pool_2d:
        case code::max_pool_2d: {
            const auto& options = std::get<tflite::pool_options>(o.options);
            const image in = as_image(x);
            const auto s =
                tflite::padded(window_of(options.kernel_h, options.kernel_w, options), options.pad, in.h, in.w);
            if (params(x) != params(y)) refuse("the grids of input and output differ");
            return pool{in, as_image(y), s, tflite::activation_range(options.fused, params(y)),
                        o.code == code::max_pool_2d};
        }
        case code::mean: {
            const image in = as_image(x);
            const auto axes = model_.constant<std::int32_t>(input(1));
            if (axes.size() != 2 || std::min(axes[0], axes[1]) != 1 || std::max(axes[0], axes[1]) != 2)
                refuse("the mean is not over height and width");
            return mean{in, as_rows(y, in.c), tflite::make_mean(params(x), params(y), in.h * in.w)};
        }
        case code::softmax: {
            const auto& shape = model_.at(x).shape;
            const index_t cols = shape.empty() ? 1 : shape.back();
            if (params(y) != notch::quant_params{1.0f / 256.0f, -128})
                refuse("the output is not on the grid of softmax");
            return softmax{as_rows(x, cols), as_rows(y, cols),
                           tflite::make_softmax(params(x).scale, std::get<tflite::softmax_options>(o.options).beta)};
        }
        case code::quantize: return requantize{of(x), of(y), params(x), params(y)};
        case code::reshape:
        case code::squeeze:
            if (of(x).size() != of(y).size()) refuse("the sizes of input and output differ");
            return reshape{of(x), of(y)};
        case code::pad: {
            const auto around = model_.constant<std::int32_t>(input(1)); // before and after, for each dimension
            const image in = as_image(x);
            image out = as_image(y);
            if (around.size() != 8 || std::any_of(around.begin(), around.end(), [](std::int32_t e) { return e < 0; }) ||
                out.n != in.n + around[0] + around[1] || out.h != in.h + around[2] + around[3] ||
                out.w != in.w + around[4] + around[5] || out.c != in.c + around[6] + around[7])
                refuse("the paddings do not fit");
            pad l{in, out, of(y), static_cast<std::int8_t>(params(y).zero_point)};
            l.inside.data = &out(around[0], around[2], around[4], around[6]);
            return l;
        }
        default: refuse("no kernel here");
        }
    }
    void grow(index_t bytes) {
        if (static_cast<std::size_t>(bytes) > workspace_.size()) workspace_.resize(static_cast<std::size_t>(bytes));
    }

    const tflite::model& model_;
    std::string here_ = "the graph";
    std::vector<std::vector<std::int8_t>> memory_; ///< by tensor; nothing for constants
    std::vector<layer> layers_;
    std::vector<index_t> written_;
    std::vector<std::byte> workspace_;
};

} // namespace mlperf
