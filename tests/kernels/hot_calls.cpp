// SPDX-License-Identifier: Apache-2.0
//
// A hot call allocates nothing.
#if !defined(__SANITIZE_ADDRESS__)

#include "../allocations.hpp"
#include "../catch.hpp"

#include <vector>

#include <notch/kernels/add.hpp>
#include <notch/kernels/aggregate.hpp>
#include <notch/kernels/concat.hpp>
#include <notch/kernels/conv.hpp>
#include <notch/kernels/depthwise.hpp>
#include <notch/kernels/embedding.hpp>
#include <notch/kernels/gemm.hpp>
#include <notch/kernels/gemm_batched.hpp>
#include <notch/kernels/gemm_dynamic.hpp>
#include <notch/kernels/lookup.hpp>
#include <notch/kernels/lowbit_conv.hpp>
#include <notch/kernels/multiply.hpp>
#include <notch/kernels/norm.hpp>
#include <notch/kernels/pool.hpp>
#include <notch/kernels/quantize.hpp>
#include <notch/kernels/recurrent.hpp>
#include <notch/kernels/softmax.hpp>
#include <notch/kernels/weight_only.hpp>

using namespace notch;

TEST_CASE("the counter counts") {
    const long before = allocations;
    const buffer<float> b(3);
    CHECK(allocations - before == 1);
    CHECK(b.size() == 3);
}

TEST_CASE("a kernel call allocates nothing, on every instruction set") {
    const index_t n = 2, h = 9, w = 7, c = 5, out = 21;
    const std::vector<std::int8_t> weights(static_cast<std::size_t>(out * 9 * c), 3);
    const std::vector<float> scale{0.01f};
    const std::vector<std::uint8_t> x(static_cast<std::size_t>(n * h * w * c), 9);
    std::vector<std::uint8_t> y(static_cast<std::size_t>(n * h * w * out));
    std::vector<float> real(x.size());
    const window s = window::square(3, 1, 1);
    const quant_params p{0.1f, 4};
    const packed_weights matrix = pack({weights.data(), out, c}), conv = pack_conv2d(weights, out, c, s);
    const packed_depthwise deep = pack_depthwise(std::span(weights).first(static_cast<std::size_t>(9 * c)), c, s);
    const auto gemm_ep = make_epilogue(matrix, stage::requantize{p, scale, p}, stage::relu{});
    const auto rows_ep = make_epilogue(matrix, stage::dequantize_rows{scale});
    const auto operand = make_operand<std::int8_t>(out, c, 1);
    const auto operand_ep = make_epilogue(operand, stage::accumulators{});
    std::vector<float> floats(y.size());
    std::vector<std::int32_t> sums(static_cast<std::size_t>(h * out));
    const auto conv_ep = make_epilogue(conv, stage::requantize{p, scale, p}, stage::relu6{});
    const auto deep_ep = make_epilogue(deep, stage::requantize_fixed{p, scale, p});
    const nhwc_view<const std::uint8_t> in(x.data(), n, h, w, c);
    const add_params sum = make_add(p, p, p);
    for (isa i : available_isas()) {
        context ctx(i);
        const index_t need =
            std::max({conv2d_workspace_size(conv, n, h, w, ctx), depthwise_workspace_size(deep, n, h, w, ctx),
                      pool_workspace_size(s, ctx), gemm_dynamic_workspace_size(n * h * w, c),
                      gemm_batched_workspace_size(operand, ctx)});
        std::vector<std::byte> memory(static_cast<std::size_t>(need));
        ctx.workspace = memory;
        const long before = allocations;
        gemm(matrix_view<const std::uint8_t>(x.data(), n * h * w, c), matrix, gemm_ep,
             matrix_view<std::uint8_t>(y.data(), n * h * w, out), ctx);
        gemm_dynamic(matrix_view<const float>(real.data(), n * h * w, c), matrix, rows_ep,
                     matrix_view<float>(floats.data(), n * h * w, out), ctx);
        gemm_batched<rhs::plain>(batch_view<const std::uint8_t>(x.data(), 1, h, c),
                                 batch_view<const std::int8_t>(weights.data(), 1, c, out), operand, operand_ep,
                                 batch_view<std::int32_t>(sums.data(), 1, h, out), ctx);
        conv2d(in, conv, conv_ep, nhwc_view<std::uint8_t>(y.data(), n, h, w, out), ctx);
        depthwise(in, deep, deep_ep, nhwc_view<std::uint8_t>(y.data(), n, h, w, c), ctx);
        max_pool(in, s, nhwc_view<std::uint8_t>(y.data(), n, h, w, c), ctx);
        average_pool(in, p, s, p, nhwc_view<std::uint8_t>(y.data(), n, h, w, c), ctx);
        add(x, x, sum, std::span(y).first(x.size()), ctx);
        dequantize<std::uint8_t>(x, p, real, ctx);
        quantize<affine<8>>(real, p, std::span(y).first(x.size()), ctx);
        const long after = allocations;
        INFO(to_string(i));
        CHECK(after == before);
    }
}

TEST_CASE(
    "activations, softmax, norms, products, concat, embedding, aggregation and recurrent steps allocate nothing") {
    using u8 = std::uint8_t;
    const index_t rows = 9, cols = 130;
    const std::vector<u8> x(static_cast<std::size_t>(rows * cols), 9);
    const std::vector<std::int32_t> scores(x.size(), 5), indices{3, 0, 8};
    std::vector<u8> y(3 * x.size());
    std::vector<float> real(3 * static_cast<std::size_t>(cols));
    const quant_params p{0.1f, 4}, q{0.2f, 5};
    const auto table = make_lookup<u8, u8>(functions::gelu, p, q);
    const softmax_params soft = make_softmax(0.1f);
    const softmax_s32_params soft_s32 = make_softmax_s32(0.01f);
    const auto layer = make_layer_norm<u8, u8>(cols, p, 1e-5f, {}, {}, q);
    const auto product = make_multiply<u8, u8, u8>(p, q, q);
    const concat_params<u8> join[] = {make_concat<u8>(p, q), make_concat<u8>(q, q)};
    const float scale[] = {0.5f};
    const matrix_view<const u8> in(x.data(), rows, cols), two[] = {in, in};
    const matrix_view<u8> out(y.data(), rows, cols);
    const embedding_table<u8> words{in, scale, {}};
    const index_t offsets[] = {0, 2, 3};
    const std::int8_t edge_weights[] = {3, -7, 1};
    const neighbourhood edges{{offsets, indices}, edge_weights, scale};
    const index_t hidden = 33;
    const std::vector<std::int16_t> sums(static_cast<std::size_t>(2 * 4 * hidden), 700);
    std::vector<std::int32_t> state(static_cast<std::size_t>(2 * hidden));
    const matrix_view<std::int32_t> states(state.data(), 2, hidden);
    const matrix_view<const std::int16_t> four(sums.data(), 2, 4 * hidden), three(sums.data(), 2, 3 * hidden);
    const recurrent_params cell = make_recurrent({1.0f / 128.0f, 128});
    for (isa i : available_isas()) {
        const context ctx(i);
        const long before = allocations;
        lookup(x, table, std::span(y).first(x.size()), ctx);
        softmax(in, soft, out, ctx);
        softmax(matrix_view<const std::int32_t>(scores.data(), rows, cols), soft_s32, out, ctx);
        norm(in, layer, out, ctx);
        multiply(in, in, product, out, ctx);
        concat<u8>(two, join, matrix_view<u8>(y.data(), rows, 2 * cols), ctx);
        embedding(in, std::span<const std::int32_t>(indices), matrix_view<u8>(y.data(), 3, cols), ctx);
        embedding(words, std::span<const std::int32_t>(indices), matrix_view<float>(real.data(), 3, cols), ctx);
        embedding(words, std::span<const std::int32_t>(indices), q, matrix_view<u8>(y.data(), 3, cols), ctx);
        aggregate(edges, in, p, q, matrix_view<u8>(y.data(), 2, cols), ctx);
        aggregate(edges, in, p, matrix_view<float>(real.data(), 2, cols), ctx);
        lstm_step(four, four, states, cell, states, matrix_view<u8>(y.data(), 2, hidden), {}, ctx);
        gru_step(three, three, states, cell, states, matrix_view<u8>(y.data(), 2, hidden), {}, ctx);
        const long after = allocations;
        INFO(to_string(i));
        CHECK(after == before);
    }
}

TEST_CASE("a product with group-wise weights or few bits allocates nothing, on every instruction set") {
    const index_t m = 3, n = 21, k = 70;
    const std::vector<std::int8_t> weights(static_cast<std::size_t>(n * 9 * k), 1),
        x8(static_cast<std::size_t>(m * k), 1);
    const std::vector<float> group_scales(static_cast<std::size_t>(n * 3), 0.5f), x(x8.begin(), x8.end()),
        x_scale{0.25f};
    const std::vector<std::uint8_t> xu(x8.begin(), x8.end());
    std::vector<float> y(static_cast<std::size_t>(m * n));
    std::vector<std::int32_t> acc(static_cast<std::size_t>(m * n));
    std::vector<std::uint32_t> bits(static_cast<std::size_t>(m * 6));
    const window s = window::square(3, 1, 1);
    const auto grouped = pack_groups({weights.data(), n, k}, 4, 32, group_scales);
    const auto binary = pack_binary({weights.data(), n, k}), binary_conv = pack_binary_conv2d(weights, n, k, s);
    const auto two_bits = pack_int2_weights({weights.data(), n, k}), two_bits_conv = pack_int2_conv2d(weights, n, k, s);
    const auto binary_ep = make_epilogue(binary, stage::accumulators{}),
               two_bits_ep = make_epilogue(two_bits, stage::accumulators{});
    const matrix_view<float> yv(y.data(), m, n);
    const matrix_view<std::int32_t> acc_v(acc.data(), m, n);
    for (isa i : available_isas()) {
        context ctx(i);
        const index_t need = std::max({gemm_group_a8_workspace_size(grouped, m),
                                       conv2d_bits_workspace_size(binary_conv, bit_codes::binary, 1, 1, m, ctx),
                                       conv2d_int2_workspace_size(two_bits_conv, 1, 1, m, ctx)});
        std::vector<std::byte> memory(static_cast<std::size_t>(need));
        ctx.workspace = memory;
        const long before = allocations;
        gemm_weight_only(matrix_view<const float>(x.data(), m, k), grouped, yv, {}, ctx);
        gemm_group_a8(matrix_view<const std::int8_t>(x8.data(), m, k), x_scale, grouped, yv, {}, ctx);
        gemm_group_a8_dynamic(matrix_view<const float>(x.data(), m, k), grouped, yv, {}, ctx);
        binarize({x.data(), m, k}, 0.0f, {bits.data(), m, 3}, ctx);
        gemm_bits(matrix_view<const std::uint32_t>(bits.data(), m, 3), bit_codes::binary, binary, binary_ep, acc_v,
                  ctx);
        conv2d_bits(nhwc_view<const std::uint32_t>(bits.data(), 1, 1, m, 3), bit_codes::binary, binary_conv, binary_ep,
                    nhwc_view<std::int32_t>(acc.data(), 1, 1, m, n), bit_padding::zero, ctx);
        gemm_int2(matrix_view<const std::uint8_t>(xu.data(), m, k), two_bits, two_bits_ep, acc_v, ctx);
        conv2d_int2(nhwc_view<const std::uint8_t>(xu.data(), 1, 1, m, k), two_bits_conv, two_bits_ep,
                    nhwc_view<std::int32_t>(acc.data(), 1, 1, m, n), ctx);
        const long after = allocations;
        INFO(to_string(i));
        CHECK(after == before);
    }
}

#endif
