// SPDX-License-Identifier: Apache-2.0
//
// The same calls for two translation units with different flags: every public operation over every
// instruction set of this CPU, reduced to one number. All results are integers (or floats that the
// numeric contract fixes to the bit), so the number is the same everywhere.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <span>

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
#include <notch/kernels/tflite.hpp>
#include <notch/kernels/weight_only.hpp>
#include <notch/layers/frozen.hpp>
#include <notch/ref/gemm.hpp>
#include <notch/ref/quantize.hpp>
#include <notch/ref/tflite_pool.hpp>
#include <notch/ref/tflite_softmax.hpp>
#include <notch/scheme/block_format.hpp>
#include <notch/scheme/fixed_point.hpp>
#include <notch/scheme/packed_int4.hpp>
#include <notch/scheme/packed_lowbit.hpp>
#if __has_include(<xsimd/xsimd.hpp>) && __has_include(<notch/qat/fake_quant.hpp>)
#define NOTCH_TEST_QAT 1
#include <notch/observe/abs_max.hpp>
#include <notch/observe/mean_sigma.hpp>
#include <notch/observe/percentile.hpp>
#include <notch/observe/probe.hpp>
#include <notch/ptq/bias_correction.hpp>
#include <notch/ptq/calibrate.hpp>
#include <notch/ptq/equalize.hpp>
#include <notch/ptq/hadamard.hpp>
#include <notch/ptq/smooth_quant.hpp>
#include <notch/qat/fake_quant.hpp>
#endif

/// A user's executor, shared by both translation units: two tasks "at once", last one first.
struct backwards {
    notch::index_t concurrency() const { return 2; }
    void run(notch::index_t n, notch::task_ref task) const {
        while (n > 0) task(--n);
    }
};

namespace {

struct digest {
    std::uint64_t value = 14695981039346656037u;
    void bytes(const void* data, std::size_t size) {
        const auto* p = static_cast<const unsigned char*>(data);
        for (std::size_t i = 0; i < size; ++i) value = (value ^ p[i]) * 1099511628211u;
    }
    template <class T> void add(const notch::buffer<T>& b) {
        bytes(b.data(), static_cast<std::size_t>(b.size()) * sizeof(T));
    }
};

struct random_numbers {
    std::uint64_t state = 1;
    unsigned next() {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return static_cast<unsigned>(state >> 40);
    }
    template <class T> notch::buffer<T> codes(notch::index_t n) {
        notch::buffer<T> b(n);
        for (T& v : b) v = static_cast<T>(next());
        return b;
    }
    notch::buffer<float> floats(notch::index_t n) {
        notch::buffer<float> b(n);
        for (float& v : b) v = (static_cast<float>(next() & 0xffff) - 32768.0f) / 1024.0f;
        return b;
    }
};

/// Everything on one instruction set.
template <class T = void> void run_all(digest& d, notch::isa isa, bool parallel) {
    using namespace notch;
    random_numbers random;
    backwards executor;
    buffer<std::byte> memory(index_t{1} << 20);
    const context ctx(isa, parallel ? executor_ref(executor) : executor_ref(), memory);
    const quant_params x_params{0.05f, 117}, y_params{0.9f, 30};

    const index_t m = 7, n = 37, k = 133;
    const auto x = random.codes<std::uint8_t>(m * k);
    const auto w = random.codes<std::int8_t>(n * k);
    buffer<float> scales(n);
    buffer<std::int32_t> biases(n);
    for (index_t c = 0; c < n; ++c) {
        scales[c] = 0.001f * static_cast<float>(c + 1);
        biases[c] = static_cast<std::int32_t>(100 * c - 1000);
    }
    const matrix_view<const std::uint8_t> x_view(x.data(), m, k);
    const auto packed = pack({w.data(), n, k});

    buffer<std::int32_t> acc(m * n);
    gemm(x_view, packed, make_epilogue(packed, stage::accumulators{117}, stage::bias{biases}),
         matrix_view(acc.data(), m, n), ctx);
    d.add(acc);
    buffer<std::uint8_t> y(m * n);
    gemm(x_view, packed,
         make_epilogue(packed, stage::bias{biases}, stage::requantize{x_params, scales, y_params}, stage::relu{}),
         matrix_view(y.data(), m, n), ctx);
    d.add(y);
    gemm(x_view, packed,
         make_epilogue(packed, stage::requantize_fixed{x_params, scales, y_params},
                       stage::on_tile{[](tile<std::uint8_t> t) {
                           for (index_t i = 0; i < t.rows; ++i)
                               for (index_t j = 0; j < t.cols; ++j) t(i, j) = static_cast<std::uint8_t>(t(i, j) ^ 1);
                       }}),
         matrix_view(y.data(), m, n), ctx);
    d.add(y);
    buffer<float> real(m * n);
    gemm(x_view, packed, make_epilogue(packed, stage::dequantize{x_params, scales}, stage::relu6{}),
         matrix_view(real.data(), m, n), ctx);
    d.add(real);

    // Signed rows, weights with zero points, rows quantized on the way in, two activations.
    {
        const matrix_view<const std::int8_t> s8_view(w.data(), 5, k);
        buffer<std::int32_t> zeros(n);
        for (index_t c = 0; c < n; ++c) zeros[c] = static_cast<std::int32_t>(c - 20);
        const auto shifted = pack(matrix_view<const std::int8_t>(w.data(), n, k), zeros);
        buffer<std::int16_t> words(5 * n);
        gemm(s8_view, shifted,
             make_epilogue(shifted, stage::s8_input{},
                           stage::requantize<affine_signed<16>>{{0.05f, 3}, scales, {0.01f, 9}}),
             matrix_view(words.data(), 5, n), ctx);
        d.add(words);
        const auto rows = random.floats(m * k);
        gemm_dynamic(matrix_view<const float>(rows.data(), m, k), packed,
                     make_epilogue(packed, stage::dequantize_rows{scales}, stage::real_bias{scales}),
                     matrix_view(real.data(), m, n), ctx);
        d.add(real);
        const auto operand = make_operand<std::int8_t>(n, k, 5);
        gemm_batched<rhs::transposed>(batch_view<const std::uint8_t>(x.data(), 1, m, k),
                                      batch_view<const std::int8_t>(w.data(), 1, n, k), operand,
                                      make_epilogue(operand, stage::accumulators{117}),
                                      batch_view<std::int32_t>(acc.data(), 1, m, n), ctx);
        d.add(acc);
    }

    const index_t h = 9, width = 8, channels = 5;
    const auto image = random.codes<std::uint8_t>(2 * h * width * channels);
    const nhwc_view<const std::uint8_t> image_view(image.data(), 2, h, width, channels);
    const window s = window::square(3, 2, 1);
    const auto conv_w = random.codes<std::int8_t>(n * 9 * channels);
    const auto packed_conv = pack_conv2d(conv_w, n, channels, s);
    buffer<std::uint8_t> conv_y(2 * s.out_h(h) * s.out_w(width) * n);
    conv2d(image_view, packed_conv, make_epilogue(packed_conv, stage::requantize{x_params, scales, y_params}),
           nhwc_view<std::uint8_t>(conv_y.data(), 2, s.out_h(h), s.out_w(width), n), ctx);
    d.add(conv_y);

    const auto dw_w = random.codes<std::int8_t>(9 * channels);
    const auto packed_dw = pack_depthwise(dw_w, channels, s);
    buffer<std::uint8_t> dw_y(2 * s.out_h(h) * s.out_w(width) * channels);
    const nhwc_view<std::uint8_t> dw_view(dw_y.data(), 2, s.out_h(h), s.out_w(width), channels);
    depthwise(image_view, packed_dw,
              make_epilogue(packed_dw, stage::requantize{x_params, scales.span().first(1), y_params}), dw_view, ctx);
    d.add(dw_y);
    max_pool(image_view, s, dw_view, ctx);
    d.add(dw_y);
    average_pool(image_view, x_params, s, y_params, dw_view, ctx);
    d.add(dw_y);

    // Copies too: their functions are the compiler's.
    layer_spec spec;
    spec.geometry = s;
    spec.in_channels = channels;
    spec.out_channels = n;
    spec.weights = conv_w;
    spec.w_scales = scales;
    spec.bias = biases;
    spec.x = x_params;
    spec.y = y_params;
    spec.function = nonlinearity::relu6;
    frozen_conv2d first(spec), layer;
    layer = first;
    const packed_weights copy = layer.packed();
    const layer_spec again = layer.spec();
    frozen_conv2d(again).forward(image_view, nhwc_view<std::uint8_t>(conv_y.data(), 2, s.out_h(h), s.out_w(width), n),
                                 ctx);
    d.add(conv_y);
    d.add(copy.data);
    activation act, other;
    act.reshape(1, 1, 1, 3);
    other = act;
    spec.bias = {};
    spec.float_bias = scales;
    dynamic_conv2d dynamic_first(spec), dynamic = dynamic_first;
    const auto dynamic_x = random.floats(2 * h * width * channels);
    buffer<float> dynamic_y(2 * s.out_h(h) * s.out_w(width) * n);
    dynamic.forward(nhwc_view<const float>(dynamic_x.data(), 2, h, width, channels),
                    nhwc_view<float>(dynamic_y.data(), 2, s.out_h(h), s.out_w(width), n), ctx);
    d.add(dynamic_y);

    buffer<std::uint8_t> sum(m * k);
    add(x, x, make_add({0.02f, 3}, {0.5f, 128}, {0.7f, 100}), sum, ctx);
    d.add(sum);

    const matrix_view<std::uint8_t> code_rows(sum.data(), m, k);
    lookup(x, make_lookup<std::uint8_t, std::uint8_t>(functions::gelu, x_params, {0.03f, 10}), sum, ctx);
    d.add(sum);
    lookup(x, make_lookup<std::uint8_t, std::uint8_t>(functions::elu{0.5}, x_params, {0.03f, 10}), sum, ctx);
    d.add(sum);
    softmax(x_view, make_softmax(0.02f), code_rows, ctx);
    d.add(sum);
    softmax(matrix_view<const std::int32_t>(acc.data(), m, n), make_softmax_s32(1e-4f),
            matrix_view<std::uint8_t>(sum.data(), m, n), ctx);
    d.add(sum);
    buffer<std::int8_t> signed_x(x.size()), signed_y(x.size());
    for (index_t i = 0; i < x.size(); ++i) signed_x[i] = static_cast<std::int8_t>(x[i] - 128);
    tflite::add(signed_x, signed_x, tflite::make_add({0.02f, 3}, {0.05f, -7}, {0.07f, 10}), signed_y, ctx);
    d.add(signed_y);
    tflite::softmax(matrix_view<const std::int8_t>(signed_x.data(), m, k), tflite::make_softmax(0.02f),
                    matrix_view<std::int8_t>(signed_y.data(), m, k));
    d.add(signed_y);
    tflite::average_pool(nhwc_view<const std::int8_t>(signed_x.data(), 1, m, 1, k), global_window(m, 1),
                         nhwc_view<std::int8_t>(signed_y.data(), 1, 1, 1, k));
    d.add(signed_y);
    const auto norm_p = make_layer_norm<std::uint8_t, std::uint8_t>(k, x_params, 1e-5f, {}, {}, {0.03f, 128});
    const auto norm_copy = norm_p;
    norm(x_view, norm_copy, code_rows, ctx);
    d.add(sum);
    multiply(x_view, x_view, make_multiply<std::uint8_t, std::uint8_t, std::uint8_t>(x_params, x_params, y_params),
             code_rows, ctx);
    d.add(sum);
    const matrix_view<const std::uint8_t> halves[] = {{x.data(), m, 60, k}, {x.data() + 60, m, k - 60, k}};
    const concat_params<std::uint8_t> joined[] = {make_concat<std::uint8_t>(x_params, y_params),
                                                  make_concat<std::uint8_t>(y_params, y_params)};
    concat<std::uint8_t>(halves, joined, code_rows, ctx);
    d.add(sum);
    const std::int32_t word_indices[] = {3, 0, 6, 3, 1, 2, 5};
    const float word_scale[] = {0.05f};
    const embedding_table<std::uint8_t> word_table{x_view, word_scale, {}};
    embedding(word_table, std::span<const std::int32_t>(word_indices), y_params, code_rows, ctx);
    d.add(sum);
    buffer<float> word_values(m * k);
    embedding(word_table, std::span<const std::int32_t>(word_indices), matrix_view<float>(word_values.data(), m, k),
              ctx);
    d.add(word_values);
    buffer<index_t> edge_offsets(m + 1); // each row has one neighbour
    for (index_t i = 1; i <= m; ++i) edge_offsets[i] = i;
    const neighbourhood edges{{edge_offsets, word_indices}, {}, {}};
    aggregate(edges, x_view, x_params, y_params, code_rows, ctx);
    d.add(sum);
    aggregate(edges, x_view, x_params, matrix_view<float>(word_values.data(), m, k), ctx);
    d.add(word_values);
    buffer<std::int32_t> edge_sums(m * k);
    aggregate(edges, x_view, x_params.zero_point, matrix_view<std::int32_t>(edge_sums.data(), m, k), ctx);
    d.add(edge_sums);
    buffer<std::int32_t> states(m * k);
    buffer<std::int16_t> cell_sums(m * 4 * k), gates(m * 5 * k);
    for (std::int16_t& v : cell_sums) v = static_cast<std::int16_t>(random.next());
    const matrix_view<std::int32_t> state_rows(states.data(), m, k);
    const matrix_view<const std::int16_t> lstm_sums(cell_sums.data(), m, 4 * k), gru_sums(cell_sums.data(), m, 3 * k);
    lstm_step(lstm_sums, lstm_sums, state_rows, make_recurrent({0.008f, 128}), state_rows, code_rows,
              matrix_view<std::int16_t>(gates.data(), m, 5 * k), ctx);
    gru_step(gru_sums, gru_sums, state_rows, make_recurrent({0.008f, 128}), state_rows, code_rows, {}, ctx);
    d.add(states);
    d.add(gates);
    d.add(sum);

    const auto values = random.floats(1001);
    buffer<std::uint8_t> codes(values.size());
    const quant_params p = params_from_range<affine<8>>({-17.3f, 21.0f});
    quantize<affine<8>>(values, p, codes, ctx);
    d.add(codes);
    buffer<float> back(values.size());
    dequantize<std::uint8_t>(codes, p, back, ctx);
    d.add(back);
    ref::quantize(values, {1, 1, values.size()}, {&p, 1}, {0, 255}, codes.span());
    d.add(codes);

    buffer<std::int8_t> nibbles(1001);
    for (index_t i = 0; i < nibbles.size(); ++i) nibbles[i] = static_cast<std::int8_t>(i % 16 - 8);
    buffer<std::uint8_t> pairs(packed_int4_size(nibbles.size()));
    pack_int4(nibbles, pairs);
    unpack_int4(pairs, nibbles);
    d.add(pairs);
    d.add(nibbles);

    // Blocks of short floats, a layout with groups, and a rounding policy that is an object.
    {
        const auto floats = random.floats(m * k);
        const index_t size = floats.size();
        const channel_layout by_group = layout_of<per_group<32>>(std::array<index_t, 2>{m, k});
        buffer<std::uint8_t> packed_blocks(packed_size<fp6_e3m2>(size)), block_scales(block_count<nvfp4>(size));
        buffer<std::int8_t> group_codes(size);
        buffer<float> floats_again(size);
        buffer<quant_params> group_params(by_group.count());
        for (quant_params& each : group_params) each = {0.03f, 0};
        quantize_blocks<mxfp6_e3m2>(floats, packed_blocks,
                                    block_scales.span().first(static_cast<std::size_t>(block_count<mxfp6_e3m2>(size))));
        d.add(packed_blocks);
        const auto half = packed_blocks.span().first(static_cast<std::size_t>(packed_size<nf4>(size)));
        quantize_blocks<nvfp4>(floats, half, block_scales, 0.01f);
        dequantize_blocks<nvfp4>(half, block_scales, floats_again, 0.01f);
        d.add(floats_again);
        quantize_blocks<nf4_blocks<>>(
            floats, half, floats_again.span().first(static_cast<std::size_t>(block_count<nf4_blocks<>>(size))));
        d.add(packed_blocks);
        quantize<symmetric<8>>(floats, by_group, group_params, group_codes, ctx);
        d.add(group_codes);
        quantize<symmetric<8>>(floats, by_group, group_params, group_codes, stochastic{3, 4});
        d.add(group_codes);
        dequantize<std::int8_t>(group_codes, by_group, group_params, floats_again, ctx);
        d.add(floats_again);
    }

    buffer<float> group_scales(n * 5), group_y(m * n);
    for (index_t i = 0; i < group_scales.size(); ++i) group_scales[i] = 0.001f * static_cast<float>(i % 31 - 15);
    const auto group_x = random.floats(m * k);
    for (scale_format format : {scale_format::f32, scale_format::bf16, scale_format::f16}) {
        const packed_group_weights grouped = pack_groups({w.data(), n, k}, 8, 32, group_scales, {}, format);
        const packed_group_weights other_groups = grouped;
        gemm_weight_only(matrix_view<const float>(group_x.data(), m, k), other_groups,
                         matrix_view(group_y.data(), m, n), scales, ctx);
        d.add(group_y);
        buffer<bfloat16> half_y(m * n);
        gemm_weight_only(matrix_view<const float>(group_x.data(), m, k), grouped, matrix_view(half_y.data(), m, n), {},
                         ctx);
        d.add(half_y);
        gemm_group_a8_dynamic(matrix_view<const float>(group_x.data(), m, k), grouped,
                              matrix_view(group_y.data(), m, n), scales, ctx);
        d.add(group_y);
    }

    buffer<std::int8_t> ternary_w(n * 9 * channels);
    for (index_t i = 0; i < ternary_w.size(); ++i) ternary_w[i] = static_cast<std::int8_t>(i * 7 % 3 - 1);
    const packed_int2 two_bits = pack_int2_conv2d(ternary_w, n, channels, s), two_bits_copy = two_bits;
    buffer<std::int32_t> few(conv_y.size());
    const nhwc_view<std::int32_t> few_view(few.data(), 2, s.out_h(h), s.out_w(width), n);
    conv2d_int2(image_view, two_bits_copy, make_epilogue(two_bits, stage::accumulators{117}), few_view, ctx);
    d.add(few);
    buffer<std::uint32_t> bits(2 * h * width * 2);
    const matrix_view<const float> pixels(dynamic_x.data(), 2 * h * width, channels);
    const packed_bits planes = pack_ternary_conv2d(ternary_w, n, channels, s), planes_copy = planes;
    ternarize(pixels, 1.5f, {bits.data(), 2 * h * width, 2}, ctx);
    conv2d_bits(nhwc_view<const std::uint32_t>(bits.data(), 2, h, width, 2), bit_codes::ternary, planes_copy,
                make_epilogue(planes, stage::accumulators{}), few_view, bit_padding::zero, ctx);
    d.add(few);
    binarize(pixels, 0.25f, {bits.data(), 2 * h * width, 1}, ctx);
    conv2d_bits(nhwc_view<const std::uint32_t>(bits.data(), 2, h, width, 1), bit_codes::binary, planes,
                make_epilogue(planes, stage::accumulators{}), few_view, bit_padding::zero, ctx);
    d.add(few);

#ifdef NOTCH_TEST_QAT
    fake_quant<symmetric<8>, per_channel<0>> fake({7, 143});
    fake.forward(values, ctx);
    d.bytes(fake.codes().data(), fake.codes().size());
    d.bytes(fake.values().data(), fake.values().size_bytes());
    d.bytes(fake.mask().data(), fake.mask().size());
    // Counts are exact; what else these compute may differ in the last bit between flags.
    channel_observer<percentile> seen(11, percentile(99.0, 64));
    seen.observe(values, {91, 11, 1});
    channel_observer<percentile> twice = seen;
    twice.merge(seen);
    d.add(twice[3].statistics().statistics().counts);
    abs_max magnitude;
    magnitude.observe(values);
    mean_sigma sigma;
    sigma.observe(values);
    mean_sigma both = sigma;
    both.merge(sigma);
    const std::int64_t counts[] = {magnitude.finite(), both.finite(), percentile(50.0).finite()};
    d.bytes(counts, sizeof counts);
    if (both.range().empty() || seen.range(1).empty()) d.value = 0;
    probe versions, more;
    versions.real()("x", values, 11);
    codes.resize_discard(values.size());
    quantize<affine<8>>(values, p, codes, ctx);
    versions.integer()("x", codes, p, 11);
    more = versions;
    more.merge(versions);
    d.bytes(&more["x"].integer.at_hi, sizeof(std::int64_t));
    if (!(more["x"].integer.error.cosine() > 0.5)) d.value = 0;
    quant_params chosen[7];
    for (const clip& how : {clip::min_max(), clip::percentile(99.0), clip::entropy(), clip::error(2.4, 4)}) {
        if (!(calibrate<affine<8>>(seen[0].statistics(), how).scale > 0.0f)) d.value = 0;
        calibrate<symmetric<4>>(values, {1, 7, 143}, how, chosen);
    }
    buffer<float> w1 = random.floats(77), w2 = random.floats(77), bias(7), factors(11);
    cross_layer_equalize({w1.span(), linear_weights(11, 7), {}, w2.span(), linear_weights(7, 11)}, true,
                         factors.span());
    smooth_factors(factors, factors, 0.5, factors);
    correct_bias(w1, w2, linear_weights(7, 11), factors, bias);
    absorb_high_bias(factors, factors, factors, w2, linear_weights(7, 11), bias);
    buffer<float> rotated = random.floats(24 * 3);
    hadamard_rotation(24, 1).rotate({rotated.data(), 3, 24});
    d.add(rotated);
#endif
}

/// The number; the same for every instruction set, else 0 and a message.
template <class T = void> std::uint64_t digest_of_everything(const char* who) {
    std::uint64_t first = 0;
    for (notch::isa isa : notch::available_isas())
        for (bool parallel : {false, true}) {
            digest d;
            run_all(d, isa, parallel);
            if (first == 0) first = d.value;
            if (d.value != first) {
                std::printf("%s: %s gives another result than scalar\n", who, notch::to_string(isa));
                return 0;
            }
        }
        // The error path too.
#if NOTCH_EXCEPTIONS
    try {
        notch::detail::check_scale("test", "scale", 0.0f);
        return 0;
    } catch (const notch::error& e) {
        digest d{first};
        for (const char* c = e.what(); *c; ++c) d.bytes(c, 1);
        return d.value;
    }
#else
    return first;
#endif
}

} // namespace
