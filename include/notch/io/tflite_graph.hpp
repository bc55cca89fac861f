// SPDX-License-Identifier: Apache-2.0
//
// notch/io/tflite_graph.hpp: what a model of TensorFlow Lite holds, as plain structs: tensors with their quantization,
// operators with their options, inputs and outputs. io/tflite.hpp reads them from a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include <notch/core/error.hpp>
#include <notch/core/types.hpp>
#include <notch/ref/tflite.hpp>

NOTCH_KEYED_BEGIN
namespace tflite {

/// The type of a tensor's elements; the values are those of the schema, others are kept as they are.
enum class element : std::int8_t {
    f32,
    f16,
    i32,
    u8,
    i64,
    string,
    boolean,
    i16,
    c64,
    i8,
    f64,
    c128,
    u64,
    resource,
    variant,
    u32,
    u16,
    i4,
    bf16
};

/// An operator; the values are those of the schema, others are kept as they are.
enum class op_code : std::int32_t {
    add = 0,
    average_pool_2d = 1,
    concatenation = 2,
    conv_2d = 3,
    depthwise_conv_2d = 4,
    dequantize = 6,
    fully_connected = 9,
    logistic = 14,
    max_pool_2d = 17,
    mul = 18,
    relu = 19,
    relu_n1_to_1 = 20,
    relu6 = 21,
    reshape = 22,
    softmax = 25,
    tanh = 28,
    custom = 32,
    pad = 34,
    mean = 40,
    sub = 41,
    squeeze = 43,
    quantize = 114,
};

/// Where a tensor's codes lie: real = scale * (code - zero_point).
struct tensor {
    std::string name;
    element type = element::f32;
    std::vector<index_t> shape;
    /// Empty if the tensor is not quantized; else one scale and zero point, or one for each index of axis.
    std::vector<float> scales;
    std::vector<std::int32_t> zero_points;
    index_t axis = 0;
    bool variable = false;           ///< keeps its value from one run to the next
    std::span<const std::byte> data; ///< of a constant; empty for the others

    /// The parameters of a tensor with one scale; an error that names it for others.
    [[nodiscard]] quant_params params() const {
        if (scales.size() != 1)
            fail(errc::invalid_argument,
                 notch::detail::cat("tflite: tensor ", name, " has ", scales.size(), " scales, one is needed"));
        return {scales[0], zero_points[0]};
    }
    /// Elements, by the shape.
    [[nodiscard]] index_t size() const noexcept {
        index_t n = 1;
        for (index_t e : shape) n *= e;
        return n;
    }
};

/// Of conv_2d and depthwise_conv_2d. Strides and dilations are 1..2^20.
struct conv_options {
    padding pad = padding::same;
    index_t stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
    index_t depth_multiplier = 1; ///< only of depthwise_conv_2d; 0 if the file leaves it to the shapes
    activation fused = activation::none;
};
/// Of average_pool_2d and max_pool_2d. Extents and strides are 1..2^20.
struct pool_options {
    padding pad = padding::same;
    index_t kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1;
    activation fused = activation::none;
};
struct fully_connected_options {
    activation fused = activation::none;
    bool keep_num_dims = false;
};
/// Of add, sub and mul.
struct binary_options {
    activation fused = activation::none;
};
struct concatenation_options {
    index_t axis = 0;
    activation fused = activation::none;
};
struct softmax_options {
    float beta = 1.0f; ///< finite and > 0
};
/// The shape as the file has it, -1 for what the size decides; empty if it is an input of the operator.
struct reshape_options {
    std::vector<index_t> shape;
};
/// Of mean.
struct reducer_options {
    bool keep_dims = false;
};
using op_options = std::variant<std::monostate, conv_options, pool_options, fully_connected_options, binary_options,
                                concatenation_options, softmax_options, reshape_options, reducer_options>;

/// Inputs and outputs are indices of tensors; an input that is left out is -1.
struct op {
    op_code code = op_code::custom;
    std::string custom; ///< the name of a custom operator
    std::vector<index_t> inputs, outputs;
    op_options options;
};

/// Operators stand in the order of execution.
struct graph {
    std::string name;
    std::vector<tensor> tensors;
    std::vector<op> operators;
    std::vector<index_t> inputs, outputs;
};

/// "CONV_2D"; "operator 47" for those that op_code does not name.
[[nodiscard]] inline std::string to_string(op_code code) {
    switch (code) {
    case op_code::add: return "ADD";
    case op_code::average_pool_2d: return "AVERAGE_POOL_2D";
    case op_code::concatenation: return "CONCATENATION";
    case op_code::conv_2d: return "CONV_2D";
    case op_code::depthwise_conv_2d: return "DEPTHWISE_CONV_2D";
    case op_code::dequantize: return "DEQUANTIZE";
    case op_code::fully_connected: return "FULLY_CONNECTED";
    case op_code::logistic: return "LOGISTIC";
    case op_code::max_pool_2d: return "MAX_POOL_2D";
    case op_code::mul: return "MUL";
    case op_code::relu: return "RELU";
    case op_code::relu_n1_to_1: return "RELU_N1_TO_1";
    case op_code::relu6: return "RELU6";
    case op_code::reshape: return "RESHAPE";
    case op_code::softmax: return "SOFTMAX";
    case op_code::tanh: return "TANH";
    case op_code::custom: return "CUSTOM";
    case op_code::pad: return "PAD";
    case op_code::mean: return "MEAN";
    case op_code::sub: return "SUB";
    case op_code::squeeze: return "SQUEEZE";
    case op_code::quantize: return "QUANTIZE";
    }
    return notch::detail::cat("operator ", static_cast<std::int32_t>(code));
}

namespace detail {

/// Bits of an element, 0 for those without a fixed size.
constexpr index_t element_bits(element type) noexcept {
    constexpr std::uint8_t bits[] = {32, 16, 32, 8, 64, 0, 8, 16, 64, 8, 64, 128, 64, 0, 0, 32, 16, 4, 16};
    const auto i = static_cast<std::size_t>(type);
    return i < sizeof bits ? bits[i] : 0;
}
/// The type of elements that a C++ type stands for; none for others.
template <class T> inline constexpr element element_of_v = static_cast<element>(-1);
template <> inline constexpr element element_of_v<float> = element::f32;
template <> inline constexpr element element_of_v<double> = element::f64;
template <> inline constexpr element element_of_v<std::int8_t> = element::i8;
template <> inline constexpr element element_of_v<std::uint8_t> = element::u8;
template <> inline constexpr element element_of_v<std::int16_t> = element::i16;
template <> inline constexpr element element_of_v<std::int32_t> = element::i32;
template <> inline constexpr element element_of_v<std::int64_t> = element::i64;

} // namespace detail
} // namespace tflite
NOTCH_KEYED_END
