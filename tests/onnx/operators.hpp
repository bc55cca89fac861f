// SPDX-License-Identifier: Apache-2.0
//
// The operators of ONNX by notch's public functions (docs/numerics.md has the table). What notch does not express is
// thrown as left_out, with its reason.
#pragma once

#include <bit>
#include <cmath>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <notch/core/shape.hpp>
#include <notch/kernels/conv.hpp>
#include <notch/kernels/gemm.hpp>
#include <notch/kernels/gemm_batched.hpp>
#include <notch/kernels/quantize.hpp>
#include <notch/scheme/e8m0.hpp>
#include <notch/scheme/half.hpp>
#include <notch/scheme/minifloat.hpp>
#include <notch/scheme/packed_codes.hpp>

#include "cases.hpp"

namespace onnx {

static_assert(std::endian::native == std::endian::little, "raw_data is read as it lies in the file");

using notch::index_t;
using notch::quant_params;

struct left_out : std::runtime_error {
    using std::runtime_error::runtime_error;
};

inline std::size_t at(index_t i) { return static_cast<std::size_t>(i); }

// --- types ---------------------------------------------------------------------------------------

/// f(range) for the range of codes of an integer type.
template <class F> auto with_range(type t, const F& f) {
    switch (t) {
    case type::uint8: return f(notch::affine<8>{});
    case type::int8: return f(notch::affine_signed<8>{});
    case type::uint16: return f(notch::affine<16>{});
    case type::int16: return f(notch::affine_signed<16>{});
    case type::uint4: return f(notch::affine<4>{});
    case type::int4: return f(notch::affine_signed<4>{});
    case type::uint2: return f(notch::affine<2>{});
    case type::int2: return f(notch::affine_signed<2>{});
    default: throw left_out("no codes of the element type " + std::to_string(static_cast<int>(t)));
    }
}
/// f(range) for codes of 8 bits, those of matrix products and convolutions.
template <class F> auto with_byte_range(type t, const F& f) {
    if (t == type::uint8) return f(notch::affine<8>{});
    if (t == type::int8) return f(notch::affine_signed<8>{});
    throw left_out("a product of codes that have not 8 bits");
}
/// f(format) for a float of at most 8 bits.
template <class F> auto with_minifloat(type t, const F& f) {
    switch (t) {
    case type::float8e4m3fn: return f(notch::fp8_e4m3{});
    case type::float8e4m3fnuz: return f(notch::fp8_e4m3fnuz{});
    case type::float8e5m2: return f(notch::fp8_e5m2{});
    case type::float8e5m2fnuz: return f(notch::fp8_e5m2fnuz{});
    case type::float4e2m1: return f(notch::fp4_e2m1{});
    default: throw left_out("no short float of the element type " + std::to_string(static_cast<int>(t)));
    }
}
inline bool is_minifloat(type t) {
    return (t >= type::float8e4m3fn && t <= type::float8e5m2fnuz) || t == type::float4e2m1;
}
inline bool is_real(type t) { return t == type::float32 || t == type::float16 || t == type::bfloat16; }

// --- tensors from and to vectors -----------------------------------------------------------------

template <class T> std::vector<T> plain(const tensor& t) {
    std::vector<T> v(at(t.size()));
    if (t.bytes.size() != v.size() * sizeof(T)) throw std::runtime_error(t.name + " has the wrong number of bytes");
    if (!v.empty()) std::memcpy(v.data(), t.bytes.data(), t.bytes.size());
    return v;
}
template <class T> tensor plain(type t, const std::vector<index_t>& dims, std::span<const T> values) {
    tensor out{"", t, dims, std::vector<std::uint8_t>(values.size_bytes())};
    if (!values.empty()) std::memcpy(out.bytes.data(), values.data(), values.size_bytes());
    return out;
}

/// The codes of a format, unpacked.
template <class Format> std::vector<typename Format::code_type> codes(const tensor& t) {
    using code = typename Format::code_type;
    if constexpr (Format::bits == 8 * sizeof(code))
        return plain<code>(t);
    else {
        std::vector<code> v(at(t.size()));
        notch::unpack_codes<Format>(t.bytes, v);
        return v;
    }
}
template <class Format, class Code>
tensor of_codes(type t, const std::vector<index_t>& dims, const std::vector<Code>& v) {
    if constexpr (Format::bits == 8 * sizeof(Code))
        return plain<Code>(t, dims, v);
    else {
        tensor out{"", t, dims,
                   std::vector<std::uint8_t>(at(notch::packed_size<Format>(static_cast<index_t>(v.size()))))};
        notch::pack_codes<Format>(v, out.bytes);
        return out;
    }
}

/// The values of a tensor as floats: all types but 32 and 64 bit integers and double, exactly.
inline std::vector<float> reals(const tensor& t, const notch::context& ctx = {}) {
    if (t.type == type::float32) return plain<float>(t);
    std::vector<float> x(at(t.size()));
    if (t.type == type::float16 || t.type == type::bfloat16) {
        const auto words = plain<std::uint16_t>(t);
        for (std::size_t i = 0; i < x.size(); ++i)
            x[i] = t.type == type::float16 ? notch::from_float16(words[i]) : notch::from_bfloat16(words[i]);
    } else if (t.type == type::float8e8m0) {
        for (std::size_t i = 0; i < x.size(); ++i) x[i] = notch::e8m0::decode(t.bytes[i]);
    } else if (is_minifloat(t.type)) {
        with_minifloat(t.type, [&](auto format) {
            const auto c = codes<decltype(format)>(t);
            for (std::size_t i = 0; i < x.size(); ++i) x[i] = format.decode(c[i]);
        });
    } else {
        with_range(t.type, [&](auto range) {
            const auto c = codes<decltype(range)>(t);
            using code = typename decltype(range)::code_type;
            notch::dequantize(std::span<const code>(c), {1.0f, 0}, x, ctx);
        });
    }
    return x;
}
/// x as floats of 16 or 32 bits.
inline tensor of_reals(type t, const std::vector<index_t>& dims, const std::vector<float>& x) {
    if (t == type::float32) return plain<float>(t, dims, x);
    if (!is_real(t)) throw left_out("no float of the element type " + std::to_string(static_cast<int>(t)));
    std::vector<std::uint16_t> words(x.size());
    for (std::size_t i = 0; i < x.size(); ++i)
        words[i] = t == type::float16 ? notch::to_float16(x[i]) : notch::to_bfloat16(x[i]);
    return plain<std::uint16_t>(t, dims, words);
}

/// Zero points, or {0} for an input that is left out.
inline std::vector<std::int32_t> zero_points(const tensor* t) {
    if (t == nullptr) return {0};
    std::vector<std::int32_t> z;
    if (t->type == type::int32) return plain<std::int32_t>(*t);
    for (float v : reals(*t)) z.push_back(static_cast<std::int32_t>(v));
    return z;
}
inline std::int32_t single(const std::vector<std::int32_t>& z) {
    if (z.size() != 1) throw left_out("a zero point for each row of the left side");
    return z[0];
}
/// The one value of an input that must be one.
inline float scale_of(const tensor* t) {
    const auto s = reals(*t);
    if (s.size() != 1) throw left_out("a scale for each row of the left side or of the output");
    return s[0];
}

/// The inputs of a case in the order of its node; nullptr for one that is left out.
struct arguments {
    const node_case& c;
    std::vector<const tensor*> in;

    arguments(const node_case& the_case, const data_set& d) : c(the_case) {
        for (const std::string& name : c.node_inputs) {
            in.push_back(nullptr);
            for (std::size_t k = 0; k < c.graph_inputs.size() && k < d.inputs.size(); ++k)
                if (!name.empty() && c.graph_inputs[k].name == name) in.back() = &d.inputs[k];
        }
    }
    const tensor* maybe(std::size_t k) const { return k < in.size() ? in[k] : nullptr; }
    const tensor& operator[](std::size_t k) const {
        if (maybe(k) == nullptr) throw std::runtime_error("input " + std::to_string(k) + " is missing");
        return *in[k];
    }
};

// --- QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear -------------------------------------

/// Which elements share a scale: all; those of an index of the axis; blocks of neighbours along the axis.
inline notch::channel_layout layout(const arguments& a, const tensor& x, const tensor& scale) {
    const index_t block = a.c.integer("block_size", 0);
    if (block == 0 && scale.size() == 1) return {1, 1, x.size()};
    const auto rank = static_cast<std::int64_t>(x.dims.size());
    std::int64_t axis = a.c.integer("axis", 1);
    if (axis < 0) axis += rank;
    notch::channel_layout l{x.outer(at(rank - axis)), x.dims[at(axis)], 1};
    for (std::int64_t d = axis + 1; d < rank; ++d) l.inner *= x.dims[at(d)];
    if (block > 0) {
        l.outer_group = l.inner_group = 1;
        l.channel_group = block;
    }
    return l;
}
inline std::vector<quant_params> params(const tensor& scale, const tensor* zero_point) {
    const auto s = reals(scale);
    const auto z = zero_points(zero_point);
    std::vector<quant_params> p;
    for (std::size_t i = 0; i < s.size(); ++i) p.push_back({s[i], z[z.size() == 1 ? 0 : i]});
    return p;
}
/// The scale and the zero point of a short float for element i. The latter is 0 in all that ONNX allows, but x + 0 is
/// not x if that is -0.
struct real_params {
    std::vector<float> scales, zeros;
    notch::channel_layout l;

    real_params(const tensor& scale, const tensor* zero_point, const notch::channel_layout& layout)
        : scales(reals(scale)), zeros(zero_point ? reals(*zero_point) : std::vector<float>(scales.size(), -0.0f)),
          l(layout) {}
    float scale(std::size_t i) const { return of(scales, i); }
    float zero(std::size_t i) const { return of(zeros, i); }

private:
    float of(const std::vector<float>& v, std::size_t i) const {
        return v[v.size() == 1 ? 0 : at(l.index_of(static_cast<index_t>(i)))];
    }
};

inline std::vector<tensor> quantize_linear(const arguments& a, const notch::context& ctx) {
    const tensor &x = a[0], &scale = a[1];
    if (x.type != type::float32 || scale.type != type::float32 || a.c.integer("precision", 1) != 1)
        throw left_out("a division that is not in float32");
    type to = static_cast<type>(a.c.integer("output_dtype", 0));
    if (to == type::undefined) to = a.maybe(2) ? a.maybe(2)->type : type::uint8;
    const auto l = layout(a, x, scale);
    const auto values = reals(x);
    if (is_minifloat(to)) {
        const real_params p(scale, a.maybe(2), l);
        return {with_minifloat(to, [&](auto format) {
            using enum notch::float_overflow;
            std::vector<typename decltype(format)::code_type> c(values.size());
            for (std::size_t i = 0; i < c.size(); ++i) {
                const float v = values[i] / p.scale(i) + p.zero(i);
                c[i] = a.c.integer("saturate", 1) != 0 ? format.template encode<saturate>(v)
                                                       : format.template encode<special>(v);
            }
            return of_codes<decltype(format)>(to, x.dims, c);
        })};
    }
    const auto p = params(scale, a.maybe(2));
    return {with_range(to, [&](auto range) {
        std::vector<typename decltype(range)::code_type> c(values.size());
        notch::quantize<decltype(range)>(values, l, p, c, ctx);
        return of_codes<decltype(range)>(to, x.dims, c);
    })};
}

inline std::vector<tensor> dequantize_linear(const arguments& a, const notch::context& ctx) {
    const tensor &x = a[0], &scale = a[1];
    type to = static_cast<type>(a.c.integer("output_dtype", 0));
    if (to == type::undefined) to = scale.type;
    const auto l = layout(a, x, scale);
    std::vector<float> y(at(x.size()));
    if (is_minifloat(x.type)) {
        const real_params p(scale, a.maybe(2), l);
        y = reals(x);
        for (std::size_t i = 0; i < y.size(); ++i) y[i] = (y[i] - p.zero(i)) * p.scale(i);
    } else {
        const auto p = params(scale, a.maybe(2));
        with_range(x.type, [&](auto range) {
            const auto c = codes<decltype(range)>(x);
            using code = typename decltype(range)::code_type;
            notch::dequantize(std::span<const code>(c), l, p, y, ctx);
        });
    }
    return {of_reals(to, x.dims, y)};
}

inline std::vector<tensor> dynamic_quantize_linear(const arguments& a, const notch::context& ctx) {
    const auto x = reals(a[0]);
    const quant_params p = notch::params_from_range<notch::affine<8>>(notch::value_range(x, ctx));
    std::vector<std::uint8_t> c(x.size());
    notch::quantize<notch::affine<8>>(x, p, c, ctx);
    const std::uint8_t zero_point[] = {static_cast<std::uint8_t>(p.zero_point)};
    return {plain<std::uint8_t>(type::uint8, a[0].dims, c), plain<float>(type::float32, {}, {&p.scale, 1}),
            plain<std::uint8_t>(type::uint8, {}, zero_point)};
}

// --- Cast ----------------------------------------------------------------------------------------

inline std::vector<tensor> cast(const arguments& a, const notch::context& ctx) {
    const tensor& x = a[0];
    const type to = static_cast<type>(a.c.integer("to", 0));
    if (x.type == type::string || to == type::string) throw left_out("text");
    if (x.type == type::float64 || (to == type::float64 && x.type == type::float32))
        throw left_out("double, which notch has no conversion for");
    const auto values = reals(x, ctx);
    if (to == type::float64) { // from 16 bits: through float, exactly
        const std::vector<double> wide(values.begin(), values.end());
        return {plain<double>(to, x.dims, wide)};
    }
    if (is_real(to)) return {of_reals(to, x.dims, values)};
    const bool saturates = a.c.integer("saturate", 1) != 0;
    if (to == type::float8e8m0) {
        if (!saturates) throw left_out("E8M0 that does not saturate");
        const auto mode = a.c.attributes.find("round_mode");
        const std::string rounding = mode == a.c.attributes.end() ? "up" : mode->second.text;
        std::vector<std::uint8_t> c(values.size());
        for (std::size_t i = 0; i < c.size(); ++i)
            c[i] = rounding == "up"     ? notch::e8m0::encode(values[i], notch::toward_positive{})
                   : rounding == "down" ? notch::e8m0::encode(values[i], notch::toward_zero{})
                                        : notch::e8m0::encode(values[i]);
        return {plain<std::uint8_t>(to, x.dims, c)};
    }
    if (is_minifloat(to))
        return {with_minifloat(to, [&](auto format) {
            using enum notch::float_overflow;
            std::vector<typename decltype(format)::code_type> c(values.size());
            for (std::size_t i = 0; i < c.size(); ++i)
                c[i] = saturates ? format.template encode<saturate>(values[i])
                                 : format.template encode<special>(values[i]);
            return of_codes<decltype(format)>(to, x.dims, c);
        })};
    // Integers: toward zero, and what is too large loses its high bits, where quantize saturates. So it gets the number
    // that is left of them.
    return {with_range(to, [&](auto range) {
        constexpr float count = static_cast<float>(range.qmax - range.qmin + 1),
                        lowest = static_cast<float>(range.qmin);
        std::vector<float> wrapped(values.size());
        for (std::size_t i = 0; i < wrapped.size(); ++i) {
            const float whole = std::trunc(values[i]);
            wrapped[i] = whole - count * std::floor((whole - lowest) / count);
        }
        std::vector<typename decltype(range)::code_type> c(values.size());
        notch::quantize<decltype(range)>(wrapped, {1.0f, 0}, c, notch::toward_zero{});
        return of_codes<decltype(range)>(to, x.dims, c);
    })};
}

// --- MatMulInteger, QLinearMatMul ----------------------------------------------------------------

/// a: [..., M, K] codes A; b: [..., K, N] codes B. The output stage says what becomes of the sums. A b of rank 2 is
/// packed as weights are, in which case the product is taken a second time as one of two activations.
template <class A, class B, class Stage>
auto product(const tensor& a, const tensor& b, const std::vector<std::int32_t>& b_zero_points, const Stage& stage,
             const notch::context& base) {
    if (a.dims.size() < 2 || b.dims.size() < 2) throw left_out("a product with a vector");
    const auto x = plain<A>(a);
    const auto z = plain<B>(b);
    const index_t m = a.dims[a.dims.size() - 2], k = a.dims.back(), n = b.dims.back();
    const index_t batches = a.outer(2), z_batches = b.outer(2);
    if (z_batches != 1 && z_batches != batches) throw left_out("a product that repeats matrices");
    const auto epilogue_for = [&](const auto& operand) {
        if constexpr (std::is_signed_v<A>)
            return notch::make_epilogue(operand, stage, notch::stage::s8_input{});
        else
            return notch::make_epilogue(operand, stage);
    };
    using out = typename decltype(epilogue_for(notch::packed_weights{}))::output_type;
    std::vector<out> by_weights, by_batches(at(batches * m * n));
    if (z_batches == 1) {
        std::vector<B> transposed(z.size());
        for (index_t i = 0; i < k; ++i)
            for (index_t j = 0; j < n; ++j) transposed[at(j * k + i)] = z[at(i * n + j)];
        const auto w = notch::pack(notch::matrix_view<const B>(transposed.data(), n, k), b_zero_points);
        by_weights.resize(by_batches.size());
        notch::gemm(notch::matrix_view<const A>(x.data(), batches * m, k), w, epilogue_for(w),
                    notch::matrix_view<out>(by_weights.data(), batches * m, n), base);
        if (b_zero_points.size() > 1) return by_weights;
    }
    if (b_zero_points.size() > 1) throw left_out("a zero point for each column of a product of batches");
    const auto operand = notch::make_operand<B>(n, k, b_zero_points[0]);
    std::vector<std::byte> workspace(at(notch::gemm_batched_workspace_size(operand)));
    notch::gemm_batched<notch::rhs::plain>(
        notch::batch_view<const A>(x.data(), batches, m, k),
        notch::batch_view<const B>(z.data(), batches, k, n, n, z_batches == 1 ? 0 : k * n), operand,
        epilogue_for(operand), notch::batch_view<out>(by_batches.data(), batches, m, n),
        notch::context(base.target, {}, workspace));
    if (!by_weights.empty() && by_weights != by_batches)
        throw std::runtime_error("gemm and gemm_batched give different results");
    return by_batches;
}
inline std::vector<index_t> product_dims(const tensor& a, const tensor& b) {
    std::vector<index_t> dims = a.dims;
    dims.back() = b.dims.back();
    return dims;
}

inline std::vector<tensor> matmul_integer(const arguments& a, const notch::context& ctx) {
    const notch::stage::accumulators stage{single(zero_points(a.maybe(2)))};
    const auto acc = with_byte_range(a[0].type, [&](auto x) {
        return with_byte_range(a[1].type, [&](auto z) {
            return product<typename decltype(x)::code_type, typename decltype(z)::code_type>(
                a[0], a[1], zero_points(a.maybe(3)), stage, ctx);
        });
    });
    return {plain<std::int32_t>(type::int32, product_dims(a[0], a[1]), acc)};
}

inline std::vector<tensor> qlinear_matmul(const arguments& a, const notch::context& ctx) {
    const auto b_scales = reals(a[4]);
    const quant_params x{scale_of(&a[1]), single(zero_points(a.maybe(2)))},
        y{scale_of(&a[6]), single(zero_points(&a[7]))};
    return {with_byte_range(a[7].type, [&](auto range) {
        const notch::stage::requantize<decltype(range)> stage{x, b_scales, y};
        const auto c = with_byte_range(a[0].type, [&](auto left) {
            return with_byte_range(a[3].type, [&](auto right) {
                return product<typename decltype(left)::code_type, typename decltype(right)::code_type>(
                    a[0], a[3], zero_points(a.maybe(5)), stage, ctx);
            });
        });
        return of_codes<decltype(range)>(a[7].type, product_dims(a[0], a[3]), c);
    })};
}

// --- ConvInteger, QLinearConv --------------------------------------------------------------------

/// [n][c][...inner] to [n][...inner][c] or back: axes 1 and 2 of a tensor of three.
template <class T> std::vector<T> swap_axes(const std::vector<T>& x, index_t n, index_t first, index_t second) {
    std::vector<T> y(x.size());
    for (index_t i = 0; i < n; ++i)
        for (index_t j = 0; j < first; ++j)
            for (index_t k = 0; k < second; ++k)
                y[at((i * second + k) * first + j)] = x[at((i * first + j) * second + k)];
    return y;
}

/// A convolution in ONNX's layout, and its accumulators in notch's, channels last.
struct convolution {
    std::vector<index_t> y_dims;
    std::vector<std::int32_t> acc;
    notch::packed_weights weights; ///< for the channels of an epilogue

    template <class X>
    convolution(const arguments& a, const tensor& x, std::int32_t x_zero_point, const tensor& w,
                const std::vector<std::int32_t>& w_zero_points, std::span<const std::int32_t> bias,
                const notch::context& base, X) {
        if (x.dims.size() != 4) throw left_out("a convolution that is not over two dimensions");
        if (const auto p = a.c.attributes.find("auto_pad");
            p != a.c.attributes.end() && p->second.text != "NOTSET" && p->second.text != "VALID")
            throw left_out("auto_pad");
        const index_t out = w.dims[0], group_channels = w.dims[1], groups = a.c.integer("group", 1);
        const auto pads = a.c.integers("pads", {0, 0, 0, 0}), strides = a.c.integers("strides", {1, 1}),
                   dilations = a.c.integers("dilations", {1, 1});
        notch::window s;
        s.kernel_h = w.dims[2];
        s.kernel_w = w.dims[3];
        s.pad_top = pads[0];
        s.pad_left = pads[1];
        s.pad_bottom = pads[2];
        s.pad_right = pads[3];
        s.stride_h = strides[0];
        s.stride_w = strides[1];
        s.dilation_h = dilations[0];
        s.dilation_w = dilations[1];
        const index_t n = x.dims[0], c = x.dims[1], h = x.dims[2], width = x.dims[3];
        const index_t out_h = s.out_h(h), out_w = s.out_w(width);
        y_dims = {n, out, out_h, out_w};
        const auto image = swap_axes(plain<X>(x), n, c, h * width);

        // Weights of convolutions have no zero points, and are int8: what is left of w - zero point goes into as many
        // convolutions as it takes, whose accumulators are added.
        const auto floats = reals(w);
        std::vector<std::int32_t> rest(floats.size());
        for (std::size_t i = 0; i < rest.size(); ++i) {
            const std::size_t o = i / (floats.size() / at(out));
            rest[i] = static_cast<std::int32_t>(floats[i]) - w_zero_points[w_zero_points.size() == 1 ? 0 : o];
        }
        rest = swap_axes(rest, out, group_channels, s.kernel_h * s.kernel_w);
        acc.assign(at(n * out_h * out_w * out), 0);
        for (bool first = true, some = true; some; first = false) {
            some = false;
            std::vector<std::int8_t> part(rest.size());
            for (std::size_t i = 0; i < rest.size(); ++i) {
                part[i] = static_cast<std::int8_t>(rest[i] < -128 ? -128 : rest[i] > 127 ? 127 : rest[i]);
                rest[i] -= part[i];
                some = some || rest[i] != 0;
            }
            weights = notch::pack_conv2d(part, out, c, s, groups);
            const notch::stage::accumulators stage{x_zero_point};
            const notch::stage::bias biases{first ? bias : std::span<const std::int32_t>{}};
            const auto ep = [&] {
                if constexpr (std::is_signed_v<X>)
                    return notch::make_epilogue(weights, stage, biases, notch::stage::s8_input{});
                else
                    return notch::make_epilogue(weights, stage, biases);
            }();
            std::vector<std::byte> workspace(at(notch::conv2d_workspace_size(weights, n, h, width)));
            std::vector<std::int32_t> sums(acc.size());
            notch::conv2d(notch::nhwc_view<const X>(image.data(), n, h, width, c), weights, ep,
                          notch::nhwc_view<std::int32_t>(sums.data(), n, out_h, out_w, out),
                          notch::context(base.target, {}, workspace));
            for (std::size_t i = 0; i < acc.size(); ++i) acc[i] += sums[i];
        }
    }
};

inline std::vector<tensor> conv_integer(const arguments& a, const notch::context& ctx) {
    return {with_byte_range(a[0].type, [&](auto range) {
        const convolution c(a, a[0], single(zero_points(a.maybe(2))), a[1], zero_points(a.maybe(3)), {}, ctx,
                            typename decltype(range)::code_type{});
        const auto y = swap_axes(c.acc, c.y_dims[0], c.y_dims[2] * c.y_dims[3], c.y_dims[1]);
        return plain<std::int32_t>(type::int32, c.y_dims, y);
    })};
}

inline std::vector<tensor> qlinear_conv(const arguments& a, const notch::context& ctx) {
    const auto bias = a.maybe(8) ? plain<std::int32_t>(a[8]) : std::vector<std::int32_t>{};
    const auto w_scales = reals(a[4]);
    const quant_params x{scale_of(&a[1]), single(zero_points(&a[2]))}, y{scale_of(&a[6]), single(zero_points(&a[7]))};
    return {with_byte_range(a[0].type, [&](auto in) {
        const convolution c(a, a[0], x.zero_point, a[3], zero_points(&a[5]), bias, ctx,
                            typename decltype(in)::code_type{});
        return with_byte_range(a[7].type, [&](auto range) {
            using code = typename decltype(range)::code_type;
            const index_t pixels = c.y_dims[0] * c.y_dims[2] * c.y_dims[3], out = c.y_dims[1];
            // The accumulators have the zero point of x already.
            const auto ep =
                notch::make_epilogue(c.weights, notch::stage::requantize<decltype(range)>{{x.scale, 0}, w_scales, y});
            std::vector<code> codes(at(pixels * out));
            notch::requantize(notch::matrix_view<const std::int32_t>(c.acc.data(), pixels, out), ep,
                              notch::matrix_view<code>(codes.data(), pixels, out), {}, ctx);
            const auto planes = swap_axes(codes, c.y_dims[0], c.y_dims[2] * c.y_dims[3], out);
            return plain<code>(a[7].type, c.y_dims, planes);
        });
    })};
}

/// The outputs of a case by notch.
inline std::vector<tensor> run(const node_case& c, const data_set& d, const notch::context& ctx) {
    if (c.nodes != 1) throw left_out("the operator spelled out in " + std::to_string(c.nodes) + " others");
    const arguments a(c, d);
    if (c.op == "QuantizeLinear") return quantize_linear(a, ctx);
    if (c.op == "DequantizeLinear") return dequantize_linear(a, ctx);
    if (c.op == "DynamicQuantizeLinear") return dynamic_quantize_linear(a, ctx);
    if (c.op == "Cast") return cast(a, ctx);
    if (c.op == "MatMulInteger") return matmul_integer(a, ctx);
    if (c.op == "QLinearMatMul") return qlinear_matmul(a, ctx);
    if (c.op == "ConvInteger") return conv_integer(a, ctx);
    if (c.op == "QLinearConv") return qlinear_conv(a, ctx);
    throw left_out("the operator " + c.op);
}

} // namespace onnx
