// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/args.hpp: the border between the open tier (templates at the flags of the caller's
// translation unit) and the closed tier (kernels compiled for one instruction set each). Only
// pointers and plain structs cross it, never a vector register.
#pragma once

#include <cstdint>

#include <notch/core/config.hpp>
#include <notch/core/types.hpp>
#include <notch/scheme/fixed_point.hpp>
#include <notch/scheme/requantize.hpp>
#include <notch/scheme/rounding.hpp>

NOTCH_NAMESPACE_BEGIN

/// Columns of a weight panel: one zmm, two ymm or four NEON registers of int32.
inline constexpr index_t panel_width = 16;
/// Channels of a depthwise block: one zmm of bytes.
inline constexpr index_t depthwise_width = 64;

/// What a kernel stores for each accumulator.
enum class store_kind : std::int32_t { u8, s8, s16, s32, f32, bf16 };

/// Bytes of one result.
[[nodiscard]] NOTCH_INLINE constexpr index_t store_size(store_kind k) {
    switch (k) {
    case store_kind::u8:
    case store_kind::s8: return 1;
    case store_kind::s16:
    case store_kind::bf16: return 2;
    case store_kind::s32:
    case store_kind::f32: break;
    }
    return 4;
}

/// How the operands of a product come to the kernel; see kernels/body/gemm_tile.inl.
enum class operand_form { direct, pairs, wide, offset };

/// A correction of all accumulators: v[i][c] -= row[i] * col[c]. None if row is null.
struct outer_product {
    const std::int32_t* row = nullptr; ///< one for each row
    const std::int32_t* col = nullptr; ///< one for each column; padded to whole panels
};

/// A finished rectangle of the output, still hot in L1. data points at its first element.
struct tile_args {
    void* data = nullptr;
    index_t row = 0, col = 0;   ///< position in the output matrix (rows = n*h*w for images)
    index_t rows = 0, cols = 0; ///< extents of the rectangle
    index_t stride = 0;         ///< elements from one row to the next
};

/// An epilogue in normal form:
///     v = acc + bias[c]
///     codes (u8, s8, s16):  clamp(requantize(v, multiplier[c]), lo, hi)
///     f32:                  min(max(float(v) * multiplier[c] + f_bias[c], f_lo), f_hi); no sum if f_bias is null
///     bf16:                 the same, rounded
///     s32:                  v
/// then on_tile, if set, for each finished rectangle.
struct epilogue_args {
    const std::int32_t* bias = nullptr;                       ///< zero points folded in; padded to whole panels
    const float* multiplier = nullptr;                        ///< padded likewise
    const float* f_bias = nullptr;                            ///< real bias of the f32 and bf16 outputs; padded
    const fixed_multiplier* fixed = nullptr;                  ///< instead of multiplier for the fixed_point modes
    const std::int32_t *mantissa = nullptr, *shift = nullptr; ///< the members of fixed, for vectors; padded likewise
    requant_mode mode = requant_mode::float_scale;
    store_kind store = store_kind::s32;
    std::int32_t zero_point = 0;
    std::int32_t lo = 0, hi = 255;
    float f_lo = 0, f_hi = 0;
    /// Proved at packing: |v * multiplier| < 2^31 for every input, so the conversion to int32
    /// cannot overflow and the register path may be used. In mode fixed_point_double_rounding: |v| < 2^30, and all
    /// shifts are at most 0, so that fewer steps round it (rounded_steps of kernels/arch).
    bool bounded = false;
    /// Proved at packing as well: |v * multiplier| < 32000. The depthwise kernels then add the zero
    /// point as a float, see kernels/arch/depthwise_ops.inl.
    bool words = false;
    bool relu = false; ///< only the mask of requantize_args looks at it
    void (*on_tile)(void* context, const tile_args& tile) noexcept = nullptr; ///< called in tasks of executors
    void* context = nullptr;
};

/// Rows of bytes times packed panels. Row m is made of segments: bytes
///     a[m * lda + segment[s] + 0 ... 4 * k4 + tail - 1],  s = 0..segments-1
/// (one segment for a matrix, one for each kernel row for a convolution).
struct gemm_args {
    const std::uint8_t* a = nullptr;
    index_t lda = 0;
    index_t m = 0;
    const index_t* segment = nullptr;
    index_t segments = 1;
    index_t k4 = 0;                             ///< whole groups of four bytes in a segment
    index_t tail = 0;                           ///< 0..3 further bytes, read one by one
    const std::int8_t* b = nullptr;             ///< first panel
    index_t panel_stride = 0;                   ///< bytes from one panel to the next
    index_t n = 0;                              ///< columns; the last panel may be partly used
    bool pairs_safe = false;                    ///< vpmaddubsw cannot saturate for these weights
    bool flip = false;                          ///< the rows are s8: each byte stands for the u8 code 128 more
    index_t segment_bytes = 0;                  ///< bytes of a segment that count: for w_zero_point
    const std::int32_t* w_zero_point = nullptr; ///< of each column, padded to whole panels; or null
    outer_product outer[2];                     ///< corrections; the kernel itself fills [1] for w_zero_point
    const float* row_scale = nullptr;           ///< f32 and bf16 outputs: multiplies multiplier[c] (rounded); or null
    epilogue_args ep;                           ///< bias and multiplier already point at the first column
    void* c = nullptr;                          ///< element (0, 0) of this part of the output
    index_t ldc = 0;                            ///< elements
    index_t row = 0, col = 0;                   ///< position of c in the whole output, for on_tile
};

/// Rows first_row ... last_row - 1 of the outputs of one image, all channels. Tap (i, j) of output
/// (y, x) is the input pixel
///     iy = y * stride_h - pad_top + i * dilation_h,    ix = x * stride_w - pad_left + j * dilation_w
/// whose bytes are in[iy * in_row + ix * in_pixel + c], or outside[c % 64] if it is not in the image.
struct depthwise_args {
    const std::uint8_t* in = nullptr;
    index_t in_h = 0, in_w = 0;
    index_t in_row = 0, in_pixel = 0;      ///< bytes from one row and one pixel to the next
    const std::uint8_t* outside = nullptr; ///< 64 times the code of real 0
    bool flip = false;                     ///< inputs are s8: each byte stands for the u8 code 128 more
    index_t kernel_h = 0, kernel_w = 0, stride_h = 1, stride_w = 1;
    index_t dilation_h = 1, dilation_w = 1, pad_top = 0, pad_left = 0;
    index_t first_row = 0, last_row = 0, out_w = 0;
    index_t channels = 0;
    const std::int8_t* w = nullptr;    ///< the layouts of kernels/pack_depthwise.hpp
    const std::int8_t* tile = nullptr; ///< null unless the kernels of 3 x 3 apply
    const std::int16_t* pairs = nullptr;
    epilogue_args ep;                               ///< multiplier and fixed in natural channel order
    const std::int32_t* bias_interleaved = nullptr; ///< [channels/64][64] in the order of w
    const float* multiplier_interleaved = nullptr;  ///< likewise
    const float* multiplier_words = nullptr;        ///< if ep.words: likewise, negated if the zero point is odd
    void* out = nullptr;                            ///< pixel (0, 0) of the image
    index_t out_row = 0, ldc = 0;                   ///< elements from one output row and one output pixel to the next
    index_t row = 0;                                ///< index of output pixel (0, 0), for on_tile
};

/// Repeats each byte of pixels: out[(p * channels + c) * multiplier + i] = in[p * in_pixel + c].
/// Up to 7 bytes beyond the end of out are written.
struct expand_args {
    const std::uint8_t* in = nullptr;
    index_t pixels = 0, in_pixel = 0, channels = 0, multiplier = 1;
    std::uint8_t* out = nullptr;
};

/// Elementwise requantization of stored accumulators (bias and zero points already added).
struct requantize_args {
    const std::int32_t* acc = nullptr;
    index_t rows = 0, cols = 0, lda = 0;
    epilogue_args ep; ///< bias is ignored
    void* out = nullptr;
    index_t ldc = 0;
    /// If set: 1 where the gradient passes (the unclamped code lies in [lo, hi], the unclamped value in [f_lo, f_hi];
    /// if ep.relu, v > 0 and the value > 0 as well), else 0; dense rows x cols.
    std::uint8_t* mask = nullptr;
};

/// Elementwise quantization by one pair of parameters.
struct quantize_args {
    const float* x = nullptr;
    index_t n = 0;
    quant_params params;
    code_range range;
    store_kind store = store_kind::u8; ///< u8 or s8
    void* codes = nullptr;             ///< may be null for fake-quantize
    float* values = nullptr;           ///< fake-quantized values; may be null
    std::uint8_t* mask = nullptr;      ///< 1 where round(x / scale) + zero_point lies in range
};

struct dequantize_args {
    const void* codes = nullptr;
    store_kind store = store_kind::u8;
    index_t n = 0;
    quant_params params;
    float* x = nullptr;
};

/// Dense matrices, one pair of parameters for each column. Of the outputs any may be null.
struct quantize_columns_args {
    const float* x = nullptr;
    index_t rows = 0, cols = 0;
    const quant_params* params = nullptr;
    code_range range;
    store_kind store = store_kind::u8;
    void* codes = nullptr;
    float* values = nullptr;
    std::uint8_t* mask = nullptr;
};
struct dequantize_columns_args {
    const void* codes = nullptr;
    store_kind store = store_kind::u8;
    index_t rows = 0, cols = 0;
    const quant_params* params = nullptr;
    float* x = nullptr;
};

/// Codes of one grid to codes of another: y = clamp(round(float(x - x_zero_point) * multiplier) + zero_point).
struct requantize_codes_args {
    const void* x = nullptr;
    store_kind x_store = store_kind::u8;
    index_t n = 0;
    std::int32_t x_zero_point = 0;
    float multiplier = 1.0f;
    std::int32_t zero_point = 0;
    code_range range;
    store_kind store = store_kind::u8;
    void* y = nullptr;
};

/// dx = mask ? dy : 0.
struct straight_through_args {
    const float* dy = nullptr;
    const std::uint8_t* mask = nullptr;
    float* dx = nullptr; ///< may be dy
    index_t n = 0;
};

/// The smallest and the largest finite value of x; FLT_MAX and -FLT_MAX if there is none.
struct range_args {
    const float* x = nullptr;
    index_t n = 0;
    float* min = nullptr;
    float* max = nullptr;
};

/// A run of output pixels whose windows have the same taps inside the image, all channels.
struct pool_args {
    const std::uint8_t* const* tap = nullptr; ///< channel 0 of each tap of the first pixel
    index_t taps = 0;
    index_t pixels = 1;
    index_t in_step = 0, out_step = 0; ///< bytes from one pixel to the next
    index_t channels = 0;
    float multiplier = 0;
    std::int32_t x_zero_point = 0, y_zero_point = 0, lo = 0, hi = 255;
    std::uint8_t* out = nullptr; ///< codes, or floats for max_pool_f32
};

struct add_args {
    const std::uint8_t* a = nullptr;
    const std::uint8_t* b = nullptr;
    std::uint8_t* y = nullptr;
    index_t n = 0;
    std::int32_t a_zero_point = 0, b_zero_point = 0, y_zero_point = 0;
    std::int32_t ma = 0, mb = 0;
    float multiplier = 0;
    std::int32_t lo = 0, hi = 255;
};

/// The add of TensorFlow Lite, on s8 codes (ref/tflite.hpp).
struct add_fixed_args {
    const std::uint8_t* a = nullptr;
    const std::uint8_t* b = nullptr;
    std::uint8_t* y = nullptr;
    index_t n = 0;
    std::int32_t a_zero_point = 0, b_zero_point = 0, y_zero_point = 0;
    fixed_multiplier a_multiplier, b_multiplier, y_multiplier;
    std::int32_t lo = -128, hi = 127;
};

/// The kernels of one instruction set, one struct for each family. A kernel with a name of its own
/// (for benchmarks and bug reports) is called operation_types_MRxNRcKR__isa.
struct gemm_kernels {
    const char* name = nullptr;
    void (*gemm_u8s8)(const gemm_args&) = nullptr;
};
struct depthwise_kernels {
    void (*depthwise_u8s8)(const depthwise_args&) = nullptr;
    void (*expand)(const expand_args&) = nullptr;
};
struct quantize_kernels {
    void (*quantize)(const quantize_args&) = nullptr;
    void (*dequantize)(const dequantize_args&) = nullptr;
    void (*requantize)(const requantize_args&) = nullptr;
    void (*range)(const range_args&) = nullptr;
    void (*quantize_columns)(const quantize_columns_args&) = nullptr;
    void (*dequantize_columns)(const dequantize_columns_args&) = nullptr;
    void (*requantize_codes)(const requantize_codes_args&) = nullptr;
    void (*straight_through)(const straight_through_args&) = nullptr;
};
struct pool_kernels {
    void (*max_pool_u8)(const pool_args&) = nullptr;
    void (*max_pool_f32)(const pool_args&) = nullptr;
    void (*average_pool_u8)(const pool_args&) = nullptr;
};
struct add_kernels {
    void (*add_u8)(const add_args&) = nullptr;
    void (*add_fixed_s8)(const add_fixed_args&) = nullptr;
};

NOTCH_NAMESPACE_END
