// SPDX-License-Identifier: Apache-2.0
//
// oneDNN 2.x and 3.x: one source, built against the headers of either. Weights are in the format
// that the primitive asks for, the call is dnnl_primitive_execute with prepared arguments.
#include <omp.h>
#include <oneapi/dnnl/dnnl.hpp>

#include <cstring>
#include <utility>

#include "peer.hpp"

namespace {

using bench::operation;
using dnnl::memory;
using type = memory::data_type;
using tag = memory::format_tag;
constexpr bool v3 = DNNL_VERSION_MAJOR >= 3;

struct session {
    dnnl::engine engine{dnnl::engine::kind::cpu, 0};
    dnnl::stream stream{engine};
};
session& shared() {
    static session s;
    return s;
}

class onednn_work final : public bench::work {
public:
    int threads = 1;
    dnnl::primitive primitive;
    std::vector<std::pair<int, memory>> memories; // keeps them alive
    std::vector<dnnl_exec_arg_t> args;
    memory y;
    bool floats = false;

    memory& hold(int arg, memory m) {
        args.push_back({arg, m.get()});
        return memories.emplace_back(arg, std::move(m)).second;
    }
    template <class T> void hold(int arg, const memory::desc& d, const std::vector<T>& values) {
        memory m(d, shared().engine);
        std::memcpy(m.get_data_handle(), values.data(), values.size() * sizeof(T));
        hold(arg, std::move(m));
    }
    void run() override {
        omp_set_num_threads(threads);
        dnnl_primitive_execute(primitive.get(), shared().stream.get(), static_cast<int>(args.size()), args.data());
        if constexpr (v3) shared().stream.wait();
    }
    bench::output result() const override {
        bench::output o;
        const std::size_t bytes = y.get_desc().get_size();
        if (floats) {
            o.values.resize(bytes / sizeof(float));
            std::memcpy(o.values.data(), y.get_data_handle(), bytes);
        } else {
            o.codes.resize(bytes);
            std::memcpy(o.codes.data(), y.get_data_handle(), bytes);
        }
        return o;
    }
};

/// What oneDNN needs to know of the scales and zero points of an int8 problem; mask says which
/// dimensions of the weights (3.x) or of the output (2.x) they vary along.
struct quantization {
    dnnl::primitive_attr attr;
    std::vector<float> scales;
    int x_zero_point, y_zero_point;

    quantization(const bench::workload& w, int weight_mask, int output_mask)
        : x_zero_point(w.p.x_zero_point), y_zero_point(w.p.y_zero_point) {
        for (long c = 0; c < w.p.outputs(); ++c) scales.push_back(w.multiplier(c));
#if DNNL_VERSION_MAJOR >= 3
        (void)output_mask;
        attr.set_scales_mask(DNNL_ARG_WEIGHTS, weight_mask);
        if (x_zero_point) attr.set_zero_points_mask(DNNL_ARG_SRC, 0);
        if (y_zero_point) attr.set_zero_points_mask(DNNL_ARG_DST, 0);
#else
        (void)weight_mask;
        attr.set_output_scales(output_mask, scales);
        if (x_zero_point) attr.set_zero_points(DNNL_ARG_SRC, 0, {x_zero_point});
        if (y_zero_point) attr.set_zero_points(DNNL_ARG_DST, 0, {y_zero_point});
#endif
    }
    void hold(onednn_work& o) const {
#if DNNL_VERSION_MAJOR >= 3 // there they are arguments of the call
        const memory::desc one({1}, type::s32, tag::a);
        o.hold(DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS,
               memory::desc({static_cast<long>(scales.size())}, type::f32, tag::a), scales);
        if (x_zero_point)
            o.hold(DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_SRC, one, std::vector<std::int32_t>{x_zero_point});
        if (y_zero_point)
            o.hold(DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_DST, one, std::vector<std::int32_t>{y_zero_point});
#else
        (void)o;
#endif
    }
};

/// Inputs, weights in the primitive's own format, bias.
template <class Descriptor>
void fill(onednn_work& o, const bench::workload& w, const Descriptor& pd, const memory::dims& weight_dims,
          tag weight_tag, bool floats) {
    o.primitive = dnnl::primitive(pd.get());
    o.detail = pd.impl_info_str();
    o.floats = floats;
    const bool has_zero_point = w.p.x_zero_point != 0;
    memory plain({weight_dims, floats ? type::f32 : type::s8, weight_tag}, shared().engine);
    if (floats) {
        std::vector<float> x, bias(w.bias.begin(), w.bias.end()), weights(w.w.begin(), w.w.end());
        for (std::uint8_t v : w.x) x.push_back(static_cast<float>(v - (has_zero_point ? w.p.x_zero_point : 0)));
        o.hold(DNNL_ARG_SRC, pd.src_desc(), x);
        o.hold(DNNL_ARG_BIAS, pd.bias_desc(), bias);
        std::memcpy(plain.get_data_handle(), weights.data(), weights.size() * sizeof(float));
    } else {
        o.hold(DNNL_ARG_SRC, pd.src_desc(), w.x);
        if constexpr (v3) { // in units of the output, since 3.x adds it after scaling
            std::vector<float> bias;
            for (std::size_t c = 0; c < w.bias.size(); ++c)
                bias.push_back(static_cast<float>(w.bias[c]) * w.multiplier(static_cast<long>(c)));
            o.hold(DNNL_ARG_BIAS, pd.bias_desc(), bias);
        } else {
            o.hold(DNNL_ARG_BIAS, pd.bias_desc(), w.bias);
        }
        std::memcpy(plain.get_data_handle(), w.w.data(), w.w.size());
    }
    memory& packed = o.hold(DNNL_ARG_WEIGHTS, memory(pd.weights_desc(), shared().engine));
    dnnl::reorder(plain, packed).execute(shared().stream, plain, packed);
    o.y = memory(pd.dst_desc(), shared().engine);
    o.hold(DNNL_ARG_DST, o.y);
    shared().stream.wait();
}

void prepare_gemm(onednn_work& o, const bench::workload& w, bool floats) {
    const auto& p = w.p;
    const type in = floats ? type::f32 : type::u8, wt = floats ? type::f32 : type::s8;
    const memory::desc x({p.m, p.k}, in, tag::ab), weights({p.k, p.n}, wt, tag::any), y({p.m, p.n}, in, tag::ab),
        bias({1, p.n}, floats || v3 ? type::f32 : type::s32, tag::ab);
    const quantization q(w, 1 << 1, 1 << 1);
    const dnnl::primitive_attr attr = floats ? dnnl::primitive_attr() : q.attr;
#if DNNL_VERSION_MAJOR >= 3
    const dnnl::matmul::primitive_desc pd(shared().engine, x, weights, bias, y, attr);
#else
    const dnnl::matmul::primitive_desc pd(dnnl::matmul::desc(x, weights, bias, y), attr, shared().engine);
#endif
    fill(o, w, pd, {p.k, p.n}, tag::ba, floats);
    if (!floats) q.hold(o);
}

void prepare_conv(onednn_work& o, const bench::workload& w, bool floats) {
    const auto& p = w.p;
    const bool depthwise = p.op == operation::depthwise;
    const type in = floats ? type::f32 : type::u8, wt = floats ? type::f32 : type::s8;
    const memory::dims weight_dims = depthwise ? memory::dims{p.channels, 1, 1, p.kernel, p.kernel}
                                               : memory::dims{p.out, p.channels, p.kernel, p.kernel};
    const memory::dims strides{p.stride, p.stride}, dilation{0, 0}, pad{p.pad, p.pad};
    // A stride that does not divide the padded input leaves its last columns out.
    const memory::dims pad_end{(p.out_h() - 1) * p.stride + p.kernel - p.h - p.pad,
                               (p.out_w() - 1) * p.stride + p.kernel - p.w - p.pad};
    const memory::desc x({1, p.channels, p.h, p.w}, in, tag::nhwc), weights(weight_dims, wt, tag::any),
        y({1, p.outputs(), p.out_h(), p.out_w()}, in, tag::nhwc),
        bias({p.outputs()}, floats || v3 ? type::f32 : type::s32, tag::a);
    const quantization q(w, depthwise ? 3 : 1, 1 << 1);
    const dnnl::primitive_attr attr = floats ? dnnl::primitive_attr() : q.attr;
    using conv = dnnl::convolution_forward;
    constexpr auto kind = dnnl::prop_kind::forward_inference;
    constexpr auto algorithm = dnnl::algorithm::convolution_direct;
#if DNNL_VERSION_MAJOR >= 3
    const conv::primitive_desc pd(shared().engine, kind, algorithm, x, weights, bias, y, strides, dilation, pad,
                                  pad_end, attr);
#else
    const conv::primitive_desc pd(conv::desc(kind, algorithm, x, weights, bias, y, strides, dilation, pad, pad_end),
                                  attr, shared().engine);
#endif
    fill(o, w, pd, weight_dims, depthwise ? tag::hwigo : tag::ohwi, floats);
    if (!floats) q.hold(o);
}

/// Quantize, dequantize and requantize are reorders. The memories stand in the arguments as FROM and TO.
void prepare_reorder(onednn_work& o, const bench::workload& w) {
    const auto& p = w.p;
    const bool to_codes = p.op != operation::dequantize, columns = p.op == operation::requantize;
    const memory::dims dims = columns ? memory::dims{p.rows(), p.outputs()} : memory::dims{p.size};
    const tag format = columns ? tag::ab : tag::a;
    const memory::desc from(dims,
                            columns    ? type::s32
                            : to_codes ? type::f32
                                       : type::u8,
                            format),
        to(dims, to_codes ? type::u8 : type::f32, format);
    std::vector<float> scales;
    for (long c = 0; columns && c < p.outputs(); ++c) scales.push_back(w.multiplier(c));
    if (!columns) scales.push_back(v3 || !to_codes ? w.x_scale : 1 / w.x_scale);
    const int zero_point = columns ? p.y_zero_point : p.x_zero_point;
    const int scale_arg = to_codes && !columns ? DNNL_ARG_TO : DNNL_ARG_FROM, mask = columns ? 1 << 1 : 0;
    const int point_arg = to_codes ? DNNL_ARG_TO : DNNL_ARG_FROM;
    dnnl::primitive_attr attr;
#if DNNL_VERSION_MAJOR >= 3
    attr.set_scales_mask(scale_arg, mask);
    if (zero_point) attr.set_zero_points_mask(point_arg, 0);
    o.hold(DNNL_ARG_ATTR_SCALES | scale_arg, memory::desc({static_cast<long>(scales.size())}, type::f32, tag::a),
           scales);
    if (zero_point)
        o.hold(DNNL_ARG_ATTR_ZERO_POINTS | point_arg, memory::desc({1}, type::s32, tag::a),
               std::vector<std::int32_t>{zero_point});
#else
    (void)scale_arg;
    attr.set_output_scales(mask, scales);
    if (zero_point) attr.set_zero_points(point_arg, 0, {zero_point});
#endif
    const dnnl::reorder::primitive_desc pd(shared().engine, from, shared().engine, to, attr);
    o.primitive = dnnl::primitive(pd.get());
    o.detail = pd.impl_info_str();
    o.floats = !to_codes;
    if (columns)
        o.hold(DNNL_ARG_FROM, from, w.acc);
    else if (to_codes)
        o.hold(DNNL_ARG_FROM, from, w.real);
    else
        o.hold(DNNL_ARG_FROM, from, w.x);
    o.y = memory(to, shared().engine);
    o.hold(DNNL_ARG_TO, o.y);
}

template <bool Floats> std::unique_ptr<bench::work> prepare(const bench::workload& w) {
    auto o = std::make_unique<onednn_work>();
    o->threads = w.p.threads;
    omp_set_num_threads(w.p.threads); // some primitives fix their blocking for the threads at creation
    try {
        if (w.p.op == operation::gemm)
            prepare_gemm(*o, w, Floats);
        else if (w.p.has_weights())
            prepare_conv(*o, w, Floats);
        else if (!Floats && w.p.op >= operation::quantize && w.p.op <= operation::requantize)
            prepare_reorder(*o, w);
        else
            return nullptr;
    } catch (const dnnl::error&) { // no implementation on this instruction set
        return nullptr;
    }
    return o;
}

} // namespace

void bench::notch_bench_offer(std::string_view, offer& o) {
    const dnnl_version_t* v = dnnl_version();
    o.version = std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
    const std::string name = v3 ? "onednn" : "onednn-2";
    o.peers.push_back({name, "u8s8u8", prepare<false>});
    o.peers.push_back({name + "-f32", "f32", prepare<true>});
}
