// SPDX-License-Identifier: Apache-2.0
//
// What the benchmarks measure: one operation on one shape, its inputs, and its right result.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace bench {

enum class operation {
    gemm,
    conv2d,
    depthwise, // with weights
    max_pool,
    average_pool,
    quantize,
    dequantize,
    requantize,
    fake_quantize,
    add,
    value_range // elementwise
};

std::string_view to_string(operation op);
/// False if there is no operation of that name.
bool parse(std::string_view name, operation& op);

/// One operation on one shape, batch 1. Of the extents below only those of the operation count.
struct problem {
    operation op = operation::gemm;
    std::string group;  ///< rows of one group belong together in a table: "gemv", "stem", ...
    bool quick = false; ///< part of a quick run

    long m = 1, n = 1, k = 1; ///< gemm: y (m x n) = x (m x k) * w (n x k) transposed

    long h = 1, w = 1, channels = 1, out = 1; ///< images, NHWC; only conv2d has out != channels
    long kernel = 1, stride = 1, pad = 0;     ///< square, the same on every side

    long size = 0; ///< elementwise: number of elements; requantize: in rows of `requantize_columns`

    int x_zero_point = 0, y_zero_point = 0;
    int weight_bits = 8; ///< 7: |w| <= 63, so that no pair of products with u8 exceeds 16 bits
    int threads = 1;

    static constexpr long requantize_columns = 256;

    long out_h() const { return (h + 2 * pad - kernel) / stride + 1; }
    long out_w() const { return (w + 2 * pad - kernel) / stride + 1; }
    bool has_weights() const { return op <= operation::depthwise; }
    bool elementwise() const { return op >= operation::quantize; }
    /// Output channels of the operation, and products summed for each result.
    long outputs() const;
    long depth() const;
    /// Rows of results: the results are rows() x outputs().
    long rows() const;

    /// 2 for each product; 1 for each tap of a pooling; elementwise 1 for each element.
    double operations() const;
    /// Bytes that an elementwise operation reads and writes, each once.
    double bytes() const;
    /// "1024x1024x1024" (M x N x K), "56x56x64_k3s1p1_to64", "4194304"; then what is special:
    /// "_zp" with zero points, "_w7" with weights of 7 bits.
    std::string shape() const;
};

/// Reads what problem::shape writes; empty text, or what is wrong with it.
std::string parse_shape(std::string_view text, problem& p);

/// The inputs of a problem. Weights fill their whole range, as trained ones do.
struct workload {
    problem p;
    std::vector<std::uint8_t> x;     ///< m x k, or h x w x channels; dequantize, add: the codes
    std::vector<std::uint8_t> other; ///< add: the second operand
    std::vector<std::int8_t> w;      ///< n x k, out x kernel x kernel x channels, or kernel x kernel x channels
    std::vector<std::int32_t> bias;
    std::vector<std::int32_t> acc; ///< requantize
    std::vector<float> real;       ///< quantize, fake_quantize, value_range
    float x_scale = 0.02f, y_scale = 0.05f;
    std::vector<float> w_scales; ///< one for each output channel

    explicit workload(const problem& problem);
    /// x_scale * w_scale / y_scale of an output channel.
    float multiplier(long c) const;
};

/// Results of one run: codes, or values of a float computation. Those of gemm and the convolutions
/// are sums of products of integers there (float(x - x_zero_point) times float(w), plus the bias).
struct output {
    std::vector<std::uint8_t> codes;
    std::vector<float> values;
};

/// What notch/ref says.
struct expected {
    std::vector<std::uint8_t> codes;
    std::vector<float> values; ///< dequantized values, sums, or the range
    explicit expected(const workload& w);
};

/// How an output differs from what is expected.
struct agreement {
    long count = 0;  ///< results compared
    long differ = 0; ///< of these, other codes (or values beyond rounding)
    long beyond = 0; ///< of these, by more than one code
    int largest = 0; ///< largest difference in codes
};
agreement compare(const output& got, const expected& want, const workload& w);

/// An operation that is ready to run again and again.
class work {
public:
    virtual ~work() = default;
    virtual void run() = 0;
    /// The results of the last run.
    virtual output result() const = 0;
    std::string detail; ///< which kernel runs, as far as the implementation tells
};

} // namespace bench
