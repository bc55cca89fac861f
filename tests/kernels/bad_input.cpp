// SPDX-License-Identifier: Apache-2.0
//
// Bad input gives an error that names the argument, and never undefined behaviour.
#include "../catch.hpp"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <notch/notch.hpp>

using namespace notch;

namespace {

template <class F> std::string message(errc code, F&& f) {
    try {
        f();
    } catch (const error& e) {
        CHECK(e.code() == code);
        return e.what();
    }
    return "no error";
}
void check_text(const std::string& text, const char* part) {
    INFO(text);
    CHECK(text.find(part) != std::string::npos);
}

const std::vector<std::int8_t> w(6, 1);
const std::vector<float> one_scale{0.5f};

} // namespace

TEST_CASE("gemm refuses what does not fit") {
    const packed_weights p = pack({w.data(), 2, 3});
    const auto ep = make_epilogue(p, stage::accumulators{});
    std::vector<std::uint8_t> x(32);
    std::vector<std::int32_t> y(32);
    using in = matrix_view<const std::uint8_t>;
    using out = matrix_view<std::int32_t>;
    check_text(message(errc::shape_mismatch, [&] { gemm(in(x.data(), 2, 5), p, ep, out(y.data(), 2, 2)); }),
               "columns of x is 5, expected 3");
    check_text(message(errc::shape_mismatch, [&] { gemm(in(x.data(), 2, 3), p, ep, out(y.data(), 3, 2)); }),
               "rows of y");
    check_text(message(errc::shape_mismatch, [&] { gemm(in(x.data(), 2, 3), p, ep, out(y.data(), 2, 3)); }),
               "columns of y");
    check_text(message(errc::invalid_argument, [&] { gemm(in(x.data(), -2, 3), p, ep, out(y.data(), -2, 2)); }),
               "x has a negative extent");
    check_text(message(errc::invalid_argument, [&] { gemm(in(x.data(), 2, 3, 2), p, ep, out(y.data(), 2, 2)); }),
               "x has stride 2");
    check_text(message(errc::invalid_argument, [&] { gemm(in(nullptr, 2, 3), p, ep, out(y.data(), 2, 2)); }),
               "x is null");
    const std::vector<std::int8_t> w9(9, 1);
    const packed_weights other = pack({w9.data(), 3, 3});
    check_text(message(errc::shape_mismatch, [&] { gemm(in(x.data(), 2, 3), other, ep, out(y.data(), 2, 3)); }),
               "epilogue");
    const packed_weights conv = pack_conv2d(std::span(w9), 1, 1, window::square(3));
    check_text(message(errc::invalid_argument,
                       [&] {
                           gemm(in(x.data(), 2, 9), conv, make_epilogue(conv, stage::accumulators{}),
                                out(y.data(), 2, 1));
                       }),
               "pack");
    gemm(in(nullptr, 0, 3), p, ep, out(nullptr, 0, 2)); // nothing to do is no error
}

TEST_CASE("make_epilogue refuses bad scales, zero points and what could overflow") {
    const packed_weights p = pack({w.data(), 2, 3});
    const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    for (float bad : {0.0f, -1.0f, inf, nan}) {
        check_text(
            message(
                errc::invalid_argument,
                [&] {
                    (void)make_epilogue(p, stage::requantize{quant_params{bad, 0}, one_scale, quant_params{1.0f, 0}});
                }),
            "x.scale");
        check_text(
            message(
                errc::invalid_argument,
                [&] {
                    (void)make_epilogue(p, stage::requantize{quant_params{1.0f, 0}, one_scale, quant_params{bad, 0}});
                }),
            "y.scale");
        const std::vector<float> ws{1.0f, bad};
        check_text(message(errc::invalid_argument,
                           [&] {
                               (void)make_epilogue(p, stage::dequantize{quant_params{1.0f, 0}, ws});
                           }),
                   "w_scales[1]");
    }
    for (std::int32_t zp :
         {std::numeric_limits<std::int32_t>::max(), std::numeric_limits<std::int32_t>::min(), 128, -129})
        check_text(message(errc::invalid_argument,
                           [&] { (void)make_epilogue(p, stage::accumulators{zp}, stage::s8_input{}); }),
                   "x.zero_point is");
    for (int zp : {-1, 256}) {
        check_text(message(errc::invalid_argument, [&] { (void)make_epilogue(p, stage::accumulators{zp}); }),
                   "x.zero_point");
        check_text(
            message(
                errc::invalid_argument,
                [&] {
                    (void)make_epilogue(p, stage::requantize{quant_params{1.0f, 0}, one_scale, quant_params{1.0f, zp}});
                }),
            "y.zero_point");
    }
    const std::vector<float> three(3, 1.0f);
    check_text(message(errc::shape_mismatch,
                       [&] {
                           (void)make_epilogue(p, stage::dequantize{quant_params{1.0f, 0}, three});
                       }),
               "3 weight scales for 2");
    const std::vector<std::int32_t> b3(3);
    check_text(message(errc::shape_mismatch, [&] { (void)make_epilogue(p, stage::bias{b3}, stage::accumulators{}); }),
               "biases");
    const std::vector<std::int32_t> huge{std::numeric_limits<std::int32_t>::max(), 0};
    check_text(message(errc::overflow, [&] { (void)make_epilogue(p, stage::bias{huge}, stage::accumulators{}); }),
               "output channel 0");
    check_text(message(errc::invalid_argument,
                       [&] {
                           (void)make_epilogue(
                               p, stage::requantize{quant_params{1.0f, 0}, one_scale, quant_params{1.0f, 0}},
                               stage::clamp{nan, 1.0f});
                       }),
               "clamp");
    check_text(message(errc::invalid_argument,
                       [&] {
                           (void)make_epilogue(p, stage::requantize{quant_params{1e-30f, 0}, std::vector<float>{1e-30f},
                                                                    quant_params{1e30f, 0}});
                       }),
               "output channel 0 is 0");
    const std::vector<std::int8_t> deep(70000);
    check_text(message(errc::overflow, [&] { (void)pack({deep.data(), 1, 70000}); }), "K = 70000");
}

TEST_CASE("convolutions and poolings refuse bad geometry and a short workspace") {
    const std::vector<std::int8_t> weights(9);
    std::vector<std::uint8_t> x(100), y(100);
    window s = window::square(3, 1, 1);
    const packed_weights p = pack_conv2d(weights, 1, 1, s);
    const packed_depthwise d = pack_depthwise(weights, 1, s);
    const auto ep = make_epilogue(p, stage::requantize{quant_params{}, one_scale, quant_params{}});
    const auto de = make_epilogue(d, stage::requantize{quant_params{}, one_scale, quant_params{}});
    const nhwc_view<const std::uint8_t> in(x.data(), 1, 5, 5, 1);
    const nhwc_view<std::uint8_t> out(y.data(), 1, 5, 5, 1);
    check_text(message(errc::invalid_argument, [&] { conv2d(in, p, ep, out); }), "conv2d_workspace_size");
    const packed_depthwise twice = pack_depthwise(std::vector<std::int8_t>(18), 1, s, 2);
    const auto twice_ep = make_epilogue(twice, stage::accumulators{});
    std::vector<std::int32_t> sums(50);
    check_text(message(errc::invalid_argument,
                       [&] { depthwise(in, twice, twice_ep, nhwc_view<std::int32_t>(sums.data(), 1, 5, 5, 2)); }),
               "depthwise_workspace_size");
    check_text(message(errc::invalid_argument, [&] { (void)pack_depthwise(weights, 1, s, 0); }), "multiplier is 0");
    check_text(
        message(errc::shape_mismatch, [&] { depthwise(in, d, de, nhwc_view<std::uint8_t>(y.data(), 1, 5, 5, 2)); }),
        "channels of y");
    check_text(message(errc::invalid_argument,
                       [&] { depthwise(nhwc_view<const std::int8_t>(nullptr, 1, 0, 0, 1), d, de, out); }),
               "s8_input");
    check_text(message(errc::invalid_argument, [&] { max_pool(in, s, out); }), "pool_workspace_size");
    check_text(message(errc::shape_mismatch, [&] { conv2d(in, p, ep, nhwc_view<std::uint8_t>(y.data(), 1, 4, 5, 1)); }),
               "height of y");
    check_text(
        message(errc::shape_mismatch, [&] { conv2d(nhwc_view<const std::uint8_t>(x.data(), 1, 5, 5, 2), p, ep, out); }),
        "channels of x");
    check_text(message(errc::invalid_argument,
                       [&] { conv2d(nhwc_view<const std::uint8_t>(x.data(), 1, 5, 5, 1, 25, 3, 1), p, ep, out); }),
               "stride_h");
    const auto with = [&](auto change) {
        window bad = s;
        change(bad);
        return message(errc::invalid_argument, [&] { (void)pack_conv2d(weights, 1, 1, bad); });
    };
    check_text(with([](window& b) { b.stride_h = 0; }), "stride_h");
    check_text(with([](window& b) { b.kernel_w = -3; }), "kernel_w");
    check_text(with([](window& b) { b.dilation_w = 0; }), "dilation_w");
    check_text(with([](window& b) { b.pad_left = -1; }), "pad_left");
    check_text(with([](window& b) { b.pad_bottom = index_t{1} << 40; }), "pad_bottom");
    check_text(message(errc::invalid_argument, [&] { (void)pack_conv2d(weights, 1, 0, s); }), "channels");
    check_text(message(errc::shape_mismatch, [&] { (void)pack_conv2d(weights, 2, 1, s); }), "number of weights");
    check_text(message(errc::shape_mismatch, [&] { (void)pack_depthwise(weights, 2, s); }), "number of weights");
    check_text(message(errc::invalid_argument, [&] { (void)make_add({0.0f, 0}, {1.0f, 0}, {1.0f, 0}); }), "a.scale");
    check_text(message(errc::invalid_argument,
                       [&] {
                           (void)make_add({1e30f, 0}, {1.0f, 0}, {1e-5f, 0});
                       }),
               "differ too much");
    for (index_t window::*stride : {&window::stride_h, &window::stride_w}) {
        window bad = s;
        bad.*stride = 0;
        check_text(message(errc::invalid_argument, [&] { max_pool(in, bad, out); }), "max_pool: stride_");
        check_text(message(errc::invalid_argument,
                           [&] {
                               average_pool(in, {1.0f, 0}, bad, {1.0f, 0}, out);
                           }),
                   "average_pool: stride_");
        check_text(message(errc::invalid_argument, [&] { (void)pool_workspace_size(bad); }), "stride_");
    }
    const float most = std::numeric_limits<float>::max(), least = std::numeric_limits<float>::min();
    check_text(message(errc::invalid_argument,
                       [&] {
                           average_pool(in, {most, 3}, s, {least, 9}, out);
                       }),
               "x_params.scale / y_params.scale");
    check_text(message(errc::invalid_argument,
                       [&] {
                           average_pool(in, {1.0f, 256}, s, {1.0f, 9}, out);
                       }),
               "x_params.zero_point is 256");
    check_text(message(errc::invalid_argument,
                       [&] {
                           average_pool(in, {1.0f, 3}, s, {1.0f, 999}, out);
                       }),
               "y_params.zero_point is 999");
    check_text(message(errc::overflow,
                       [&] {
                           average_pool(in, {1.0f, 3}, window::square(1 << 12), {1.0f, 9}, out);
                       }),
               "at most 8421504");
    check_text(message(errc::shape_mismatch, [&] { add(x, std::span(y).first(3), make_add({}, {}, {}), y); }),
               "size of b");
}

TEST_CASE("quantize refuses bad parameters, and an unknown instruction set is named") {
    std::vector<float> x(4);
    std::vector<std::uint8_t> y(4);
    check_text(message(errc::invalid_argument, [&] { quantize<affine<8>>(x, {-1.0f, 0}, y); }), "params.scale");
    check_text(message(errc::invalid_argument, [&] { quantize<affine<4>>(x, {1.0f, 16}, y); }), "zero_point is 16");
    check_text(message(errc::shape_mismatch,
                       [&] {
                           quantize<affine<8>>(x, {1.0f, 0}, std::span(y).first(3));
                       }),
               "size of codes");
    check_text(message(errc::shape_mismatch,
                       [&] {
                           dequantize<std::uint8_t>(y, {1.0f, 0}, std::span(x).first(1));
                       }),
               "size of x");
    check_text(message(errc::invalid_argument, [] { (void)isa_from_name("sse9"); }), "unknown instruction set 'sse9'");
    check_text(message(errc::invalid_argument,
                       [] {
                           (void)params_from_range<affine<8>>({0.0f, std::numeric_limits<float>::infinity()});
                       }),
               "not finite");
}

TEST_CASE("what was moved from, and values outside an enumeration, are refused") {
    const packed_weights p = pack({w.data(), 2, 3});
    const std::vector<std::int32_t> acc(4);
    std::vector<std::uint8_t> codes(4);
    std::vector<float> values(4);
    std::vector<std::int32_t> sums(4);
    const matrix_view<const std::int32_t> in(acc.data(), 2, 2);
    const stage::requantize_fixed fixed{quant_params{}, one_scale, quant_params{}};
    const auto refused = [&](auto ep, auto& y) {
        const matrix_view out(y.data(), 2, 2);
        requantize(in, ep, out);
        const auto moved = std::move(ep);
        check_text(message(errc::invalid_argument, [&] { requantize(in, ep, out); }),
                   "requantize: the epilogue was moved from");
        requantize(in, moved, out);
    };
    refused(make_epilogue(p, stage::requantize{quant_params{}, one_scale, quant_params{}}), codes);
    refused(make_epilogue(p, fixed), codes);
    refused(make_epilogue(p, stage::dequantize{quant_params{}, one_scale}), values);
    refused(make_epilogue(p, stage::accumulators{}), sums);

    // Moving by assignment leaves nothing behind either, not the smaller weights that stood there before.
    const std::vector<std::int8_t> few(16, 1), many(64 * 64 * 9, 1);
    packed_weights small = pack_conv2d(few, 16, 1, window{}), large = pack_conv2d(many, 64, 64, window::square(3));
    const auto large_ep = make_epilogue(large, stage::accumulators{});
    std::vector<std::byte> memory(static_cast<std::size_t>(conv2d_workspace_size(large, 1, 3, 3)));
    const std::vector<std::uint8_t> image(9 * 64);
    std::vector<std::int32_t> y(64);
    const nhwc_view<const std::uint8_t> x(image.data(), 1, 3, 3, 64);
    const nhwc_view<std::int32_t> out(y.data(), 1, 1, 1, 64);
    small = std::move(large);
    check_text(message(errc::invalid_argument, [&] { conv2d(x, large, large_ep, out, context(memory)); }),
               "moved from");
    conv2d(x, small, large_ep, out, context(memory));
    packed_depthwise thin = pack_depthwise(few, 16, window{}),
                     thick = pack_depthwise(std::span(many).first(64 * 9), 64, window::square(3));
    const auto thick_ep = make_epilogue(thick, stage::accumulators{});
    thin = std::move(thick);
    check_text(message(errc::invalid_argument, [&] { depthwise(x, thick, thick_ep, out); }), "moved from");
    packed_transposed one = pack_conv2d_transposed(few, 16, 1, {}),
                      other = pack_conv2d_transposed(many, 64, 64, {window::square(3), 0, 0});
    const auto other_ep = make_epilogue(other, stage::accumulators{});
    one = std::move(other);
    std::vector<std::int32_t> y5(5 * 5 * 64);
    check_text(message(errc::invalid_argument,
                       [&] { conv2d_transposed(x, other, other_ep, nhwc_view<std::int32_t>(y5.data(), 1, 5, 5, 64)); }),
               "moved from");
    check_text(message(errc::invalid_argument, [&] { (void)conv2d_transposed_workspace_size(other, 1, 3, 3); }),
               "moved from");
    check_text(
        message(errc::invalid_argument, [] { (void)conv2d_transposed_workspace_size(packed_transposed{}, 1, 4, 4); }),
        "empty");

    const auto by_rows = make_epilogue(p, stage::dequantize_rows{one_scale});
    check_text(message(errc::invalid_argument, [&] { requantize(in, by_rows, matrix_view(values.data(), 2, 2)); }),
               "requantize: the epilogue has stage::dequantize_rows");

    for (std::int32_t bad : {-1, 3, 7}) {
        stage::requantize_fixed unknown = fixed;
        unknown.mode = static_cast<requant_mode>(bad);
        check_text(message(errc::invalid_argument, [&] { (void)make_epilogue(p, unknown); }),
                   "requantize_fixed with mode");
    }
    context ctx;
    const isa chosen = ctx.target;
    for (int i = 0; i < isa_count; ++i) {
        const auto any = static_cast<isa>(i);
        if (is_available(any))
            ctx.target = any;
        else
            check_text(message(errc::unsupported, [&] { ctx.target = any; }), to_string(any));
    }
    ctx.target = chosen;
    for (int bad : {-1, isa_count, 77})
        check_text(message(errc::invalid_argument, [&] { ctx.target = static_cast<isa>(bad); }),
                   ("isa " + std::to_string(bad)).c_str());
    CHECK(ctx.target == chosen);
    for (int bad : {-1, isa_count, 77})
        check_text(message(errc::invalid_argument, [&] { context unknown{static_cast<isa>(bad)}; }),
                   ("isa " + std::to_string(bad)).c_str());
}

TEST_CASE("images without pixels: all taps are in the padding, whatever the pointer and the strides are") {
    const index_t any = std::numeric_limits<index_t>::max() / 3;
    const window s = window::square(3, 1, 2);
    const std::vector<std::int8_t> ones(9, 1);
    std::vector<std::byte> memory(1 << 12);
    const auto two_bits = pack_int2_conv2d(ones, 1, 1, s);
    const auto two_ep = make_epilogue(two_bits, stage::accumulators{7});
    const auto bits = pack_binary_conv2d(ones, 1, 1, s);
    const auto bits_ep = make_epilogue(bits, stage::accumulators{});
    const packed_depthwise d = pack_depthwise(ones, 1, s),
                           d2 = pack_depthwise(std::vector<std::int8_t>(18, 1), 1, s, 2);
    const packed_weights c = pack_conv2d(ones, 1, 1, s);
    const auto d_ep = make_epilogue(d, stage::accumulators{7}), d2_ep = make_epilogue(d2, stage::accumulators{7});
    const auto c_ep = make_epilogue(c, stage::accumulators{7});
    for (isa i : available_isas()) {
        const context ctx(i, {}, memory);
        for (auto [h, width] : {std::pair<index_t, index_t>{3, 0}, {0, 3}, {0, 0}}) {
            INFO(to_string(i) << " " << h << " x " << width);
            const nhwc_view<const std::uint8_t> x(nullptr, 2, h, width, 1, any, any, any);
            const nhwc_view<const std::uint32_t> words(nullptr, 2, h, width, 1, any, any, any);
            std::vector<std::int32_t> y(64, -1);
            std::vector<std::uint8_t> codes(64, 9);
            const auto size = static_cast<std::size_t>(2 * s.out_h(h) * s.out_w(width));
            const auto all = [&](std::int32_t v, std::size_t n) {
                return std::count(y.begin(), y.end(), v) == static_cast<std::ptrdiff_t>(n);
            };
            const nhwc_view<std::int32_t> out(y.data(), 2, s.out_h(h), s.out_w(width), 1),
                out2(y.data(), 2, s.out_h(h), s.out_w(width), 2);
            conv2d_int2(x, two_bits, two_ep, out, ctx);
            CHECK(all(0, size));
            y.assign(64, -1);
            conv2d_bits(words, bit_codes::binary, bits, bits_ep, out, bit_padding::zero, ctx);
            CHECK(all(0, size));
            y.assign(64, -1);
            depthwise(x, d, d_ep, out, ctx);
            CHECK(all(0, size));
            y.assign(64, -1);
            depthwise(x, d2, d2_ep, out2, ctx);
            CHECK(all(0, 2 * size));
            y.assign(64, -1);
            conv2d(x, c, c_ep, out, ctx);
            CHECK(all(0, size));
            const nhwc_view<std::uint8_t> pooled(codes.data(), 2, s.out_h(h), s.out_w(width), 1);
            max_pool(x, s, pooled, ctx);
            CHECK(std::count(codes.begin(), codes.end(), 0) == static_cast<std::ptrdiff_t>(size));
            average_pool(x, {1.0f, 7}, s, {1.0f, 5}, pooled, ctx);
            CHECK(std::count(codes.begin(), codes.end(), 5) == static_cast<std::ptrdiff_t>(size));
        }
    }
}

TEST_CASE("a null span that is not empty is refused and named") {
    std::vector<float> x(6, 1.0f);
    std::vector<std::uint8_t> u(6);
    std::vector<quant_params> params(2);
    const std::span<const float> no_x(static_cast<const float*>(nullptr), 6);
    const std::span<float> no_values(static_cast<float*>(nullptr), 6);
    const std::span<std::uint8_t> no_codes(static_cast<std::uint8_t*>(nullptr), 6);
    const std::span<const std::int8_t> no_w(static_cast<const std::int8_t*>(nullptr), 6);
    const std::span<quant_params> no_params(static_cast<quant_params*>(nullptr), 2);
    const channel_layout columns{3, 2, 1};
    const auto refuses = [](const char* text, const auto& call) {
        check_text(message(errc::invalid_argument, call), text);
    };
    refuses("quantize: x is null", [&] { quantize<affine<8>>(no_x, quant_params{}, u); });
    refuses("quantize: codes is null", [&] { quantize<affine<8>>(x, quant_params{}, no_codes); });
    refuses("quantize: x is null", [&] { quantize<affine<8>>(no_x, columns, params, u); });
    refuses("quantize: codes is null", [&] { quantize<affine<8>>(x, columns, params, no_codes); });
    refuses("quantize: params is null", [&] { quantize<affine<8>>(x, columns, no_params, u); });
    refuses("value_range: x is null", [&] { (void)value_range(no_x); });
    refuses("dequantize: codes is null", [&] { dequantize<std::uint8_t>(no_codes, quant_params{}, x); });
    refuses("dequantize: x is null", [&] { dequantize<std::uint8_t>(u, quant_params{}, no_values); });
    refuses("dequantize: codes is null", [&] { dequantize<std::uint8_t>(no_codes, columns, params, x); });
    refuses("dequantize: x is null", [&] { dequantize<std::uint8_t>(u, columns, params, no_values); });
    refuses("requantize_codes: x is null", [&] { requantize_codes<affine<8>, std::uint8_t>(no_codes, {}, u, {}); });
    refuses("requantize_codes: y is null", [&] { requantize_codes<affine<8>, std::uint8_t>(u, {}, no_codes, {}); });
    refuses("quantize_rows_dynamic: params is null", [&] {
        quantize_rows_dynamic<affine<8>>({x.data(), 2, 3}, {u.data(), 2, 3}, no_params);
    });
    const packed_weights p = pack({w.data(), 2, 3});
    const std::vector<std::int32_t> acc(6);
    const auto ep = make_epilogue(p, stage::requantize{quant_params{}, one_scale, quant_params{}});
    refuses("requantize: mask is null", [&] {
        requantize(matrix_view<const std::int32_t>(acc.data(), 3, 2), ep, matrix_view<std::uint8_t>(u.data(), 3, 2),
                   no_codes);
    });
    refuses("add: a is null", [&] { add(no_codes, u, make_add({}, {}, {}), u); });
    refuses("add: b is null", [&] { add(u, no_codes, make_add({}, {}, {}), u); });
    refuses("add: y is null", [&] { add(u, u, make_add({}, {}, {}), no_codes); });
    refuses("pack_conv2d: w is null", [&] { (void)pack_conv2d(no_w, 6, 1, window{}); });
    refuses("pack_conv2d_transposed: w is null", [&] { (void)pack_conv2d_transposed(no_w, 6, 1, {}); });
    refuses("pack_depthwise: w is null", [&] { (void)pack_depthwise(no_w, 6, window{}); });
    const std::span<const std::int32_t> no_zeros(static_cast<const std::int32_t*>(nullptr), 2);
    refuses("pack: zero_points is null", [&] { (void)pack(matrix_view<const std::int8_t>(w.data(), 2, 3), no_zeros); });
    refuses("make_epilogue: the bias is null",
            [&] { (void)make_epilogue(p, stage::bias{no_zeros}, stage::accumulators{}); });
    refuses("make_epilogue: w_scales is null", [&] {
        (void)make_epilogue(p, stage::dequantize{quant_params{}, no_x.first(2)});
    });
    refuses("make_epilogue: the real bias is null", [&] {
        (void)make_epilogue(p, stage::dequantize{quant_params{}, one_scale}, stage::real_bias{no_x.first(2)});
    });
    refuses("pack_groups: scales is null", [&] { (void)pack_groups({w.data(), 2, 3}, 4, 32, no_x.first(2)); });
    refuses("pack_groups: zero_points is null", [&] {
        (void)pack_groups({w.data(), 2, 3}, 4, 32, std::span(x).first(2), no_w.first(2));
    });
    const auto groups = pack_groups({w.data(), 2, 3}, 4, 32, std::span(x).first(2));
    std::vector<float> y(4);
    refuses("gemm_weight_only: bias is null", [&] {
        gemm_weight_only(matrix_view<const float>(x.data(), 2, 3), groups, matrix_view<float>(y.data(), 2, 2),
                         no_x.first(2));
    });
    refuses("gemm_group_a8: x_scales is null", [&] {
        gemm_group_a8(matrix_view<const std::int8_t>(w.data(), 2, 3), no_x.first(2), groups,
                      matrix_view<float>(y.data(), 2, 2));
    });
    refuses("concat: x is null", [&] {
        concat<std::uint8_t>({static_cast<const matrix_view<const std::uint8_t>*>(nullptr), 1},
                             std::vector<concat_params<std::uint8_t>>(1), {u.data(), 2, 3});
    });
}

TEST_CASE("a workspace is used by as many threads as it was checked for") {
    // An executor may have more threads from one moment to the next.
    struct growing {
        mutable index_t asked = 0;
        [[nodiscard]] index_t concurrency() const { return asked++ == 0 ? 1 : 4; }
        void run(index_t n, task_ref task) const {
            for (index_t i = 0; i < n; ++i) task(i);
        }
    };
    const auto untouched_behind = [](index_t size, const auto& call) {
        const auto need = static_cast<std::size_t>(size);
        std::vector<std::byte> memory(need + (std::size_t{1} << 16), std::byte{0xa5});
        const growing executor;
        call(context(executor, std::span(memory).first(need)));
        return std::all_of(memory.begin() + size, memory.end(), [](std::byte b) { return b == std::byte{0xa5}; });
    };
    const std::vector<std::uint8_t> codes(4 * 16 * 16, 3);
    std::vector<std::int32_t> sums(4 * 16 * 16);
    std::vector<std::uint8_t> pooled(4 * 16 * 16);
    const batch_view<const std::uint8_t> batch(codes.data(), 4, 16, 16);
    CHECK_THROWS_WITH(make_operand<std::uint8_t>(std::numeric_limits<index_t>::max(), 4, 0),
                      contains_text("make_operand: n = "));
    const auto operand = make_operand<std::uint8_t>(16, 16, 0);
    const auto ep = make_epilogue(operand, stage::accumulators{});
    CHECK(untouched_behind(gemm_batched_workspace_size(operand), [&](const context& ctx) {
        gemm_batched<rhs::transposed>(batch, batch, operand, ep, batch_view<std::int32_t>(sums.data(), 4, 16, 16), ctx);
    }));
    CHECK(sums == std::vector<std::int32_t>(4 * 16 * 16, 16 * 9));

    const window s = window::square(3, 1, 1);
    const nhwc_view<const std::uint8_t> image(codes.data(), 4, 16, 16, 1);
    CHECK(untouched_behind(pool_workspace_size(s), [&](const context& ctx) {
        max_pool(image, s, nhwc_view<std::uint8_t>(pooled.data(), 4, 16, 16, 1), ctx);
    }));
    CHECK(pooled == codes);

    const std::vector<std::int8_t> ones(9, 1);
    const auto two_bits = pack_int2_conv2d(ones, 1, 1, s);
    const auto two_ep = make_epilogue(two_bits, stage::accumulators{});
    const nhwc_view<std::int32_t> out(sums.data(), 4, 16, 16, 1);
    CHECK(untouched_behind(conv2d_int2_workspace_size(two_bits, 4, 16, 16),
                           [&](const context& ctx) { conv2d_int2(image, two_bits, two_ep, out, ctx); }));
    CHECK(sums[0] == 4 * 3);
    CHECK(sums[17] == 9 * 3);
    const auto bits = pack_binary_conv2d(ones, 1, 1, s);
    const auto bits_ep = make_epilogue(bits, stage::accumulators{});
    const std::vector<std::uint32_t> words(4 * 16 * 16, 0);
    CHECK(untouched_behind(conv2d_bits_workspace_size(bits, bit_codes::binary, 4, 16, 16), [&](const context& ctx) {
        conv2d_bits(nhwc_view<const std::uint32_t>(words.data(), 4, 16, 16, 1), bit_codes::binary, bits, bits_ep, out,
                    bit_padding::zero, ctx);
    }));
    CHECK(sums[0] == -4);
    CHECK(sums[17] == -9);
}
