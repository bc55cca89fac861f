// SPDX-License-Identifier: Apache-2.0
//
// What a part of a call has to know: which rows and channels it is, and where its results go. Functors on every path
// of products, zero points of weights shared out to threads, outputs with gaps.
#include "../catch.hpp"
#include "team.hpp"

#include <algorithm>
#include <vector>

#include <notch/kernels/conv.hpp>
#include <notch/kernels/gemm.hpp>
#include <notch/kernels/gemm_batched.hpp>
#include <notch/kernels/gemm_dynamic.hpp>
#include <notch/kernels/quantize.hpp>
#include <notch/ref/conv.hpp>
#include <notch/ref/gemm.hpp>

using namespace notch;

namespace {

/// Counts the results that a functor saw, by row and column.
struct census {
    index_t cols;
    std::vector<int> seen;
    census(index_t rows, index_t c) : cols(c), seen(static_cast<std::size_t>(rows * c)) {}
    template <class T> auto stage() {
        return notch::stage::on_tile{[this](tile<T> t) {
            for (index_t r = 0; r < t.rows; ++r)
                for (index_t c = 0; c < t.cols; ++c)
                    ++seen.at(static_cast<std::size_t>((t.row + r) * cols + t.col + c));
        }};
    }
    [[nodiscard]] bool once() const {
        return std::all_of(seen.begin(), seen.end(), [](int n) { return n == 1; });
    }
};

} // namespace

TEST_CASE("a functor sees each code of products whose weights could stay in registers") {
    std::mt19937 g(1);
    for (isa i : available_isas())
        for (index_t k : {4, 16, 24, 27, 32})
            for (index_t n : {16, 32, 48}) {
                INFO(to_string(i) << " K " << k << " N " << n);
                const index_t m = 40;
                const auto x = random_codes<std::uint8_t>(g, static_cast<std::size_t>(m * k));
                const auto w = random_codes<std::int8_t>(g, static_cast<std::size_t>(n * k));
                const packed_weights p = pack({w.data(), n, k});
                const std::vector<float> scale{0.01f};
                census all(m, n);
                std::vector<std::uint8_t> y(static_cast<std::size_t>(m * n));
                gemm(matrix_view<const std::uint8_t>(x.data(), m, k), p,
                     make_epilogue(p, stage::requantize{{0.1f, 3}, scale, {0.1f, 128}}, all.stage<std::uint8_t>()),
                     matrix_view<std::uint8_t>(y.data(), m, n), context(i));
                CHECK(all.once());
            }
}

TEST_CASE("a functor sees each code of convolutions by lines and by short segments") {
    std::mt19937 g(2);
    for (isa i : available_isas())
        for (index_t channels : {1, 3, 4, 64})
            for (index_t size : {7, 14, 16})
                for (index_t n : {16, 32, 64}) {
                    INFO(to_string(i) << " " << channels << " channels, " << size << ", N " << n);
                    const window s = window::square(3, 1, 1);
                    const auto x = random_codes<std::uint8_t>(g, static_cast<std::size_t>(2 * size * size * channels));
                    const auto w = random_codes<std::int8_t>(g, static_cast<std::size_t>(n * 9 * channels));
                    const packed_weights p = pack_conv2d(w, n, channels, s);
                    const std::vector<float> scale{0.01f};
                    census all(2 * size * size, n);
                    std::vector<std::uint8_t> y(all.seen.size());
                    buffer<std::byte> memory(conv2d_workspace_size(p, 2, size, size, context(i)));
                    conv2d(
                        nhwc_view<const std::uint8_t>(x.data(), 2, size, size, channels), p,
                        make_epilogue(p, stage::requantize{{0.1f, 0}, scale, {0.1f, 128}}, all.stage<std::uint8_t>()),
                        nhwc_view<std::uint8_t>(y.data(), 2, size, size, n), context(i, {}, memory));
                    CHECK(all.once());
                }
}

TEST_CASE("rows of dynamic and batched products count on from part to part") {
    std::mt19937 g(3);
    const std::vector<float> scale{0.02f};
    for (isa i : available_isas()) {
        INFO(to_string(i));
        const index_t m = 300, n = 20, k = 9; // more rows than are quantized at a time
        std::vector<float> x(static_cast<std::size_t>(m * k), 0.5f), y(static_cast<std::size_t>(m * n));
        const auto w = random_codes<std::int8_t>(g, static_cast<std::size_t>(n * k));
        const packed_weights p = pack({w.data(), n, k});
        census rows(m, n);
        buffer<std::byte> memory(gemm_dynamic_workspace_size(m, k));
        gemm_dynamic({x.data(), m, k}, p, make_epilogue(p, stage::dequantize_rows{scale}, rows.stage<float>()),
                     {y.data(), m, n}, context(i, {}, memory));
        CHECK(rows.once());

        const index_t batches = 3, few = 5;
        const auto left = random_codes<std::uint8_t>(g, static_cast<std::size_t>(batches * few * k));
        const auto right = random_codes<std::int8_t>(g, static_cast<std::size_t>(batches * n * k));
        const activation_operand operand = make_operand<std::int8_t>(n, k, 0);
        census batched(batches * few, n);
        std::vector<std::int32_t> sums(batched.seen.size());
        buffer<std::byte> scratch(gemm_batched_workspace_size(operand));
        gemm_batched<rhs::transposed>(batch_view<const std::uint8_t>(left.data(), batches, few, k),
                                      batch_view<const std::int8_t>(right.data(), batches, n, k), operand,
                                      make_epilogue(operand, stage::accumulators{0}, batched.stage<std::int32_t>()),
                                      batch_view<std::int32_t>(sums.data(), batches, few, n), context(i, {}, scratch));
        CHECK(batched.once());
    }
}

TEST_CASE("threads that share the columns of a product take the zero points of theirs") {
    std::mt19937 g(4);
    const index_t m = 2, n = 300, k = 21; // too few rows to share those
    const auto x = random_codes<std::uint8_t>(g, static_cast<std::size_t>(m * k));
    const auto w = random_codes<std::int8_t>(g, static_cast<std::size_t>(n * k));
    const auto zeros8 = random_codes<std::int8_t>(g, static_cast<std::size_t>(n));
    const std::vector<std::int32_t> zeros(zeros8.begin(), zeros8.end());
    const packed_weights p = pack(matrix_view<const std::int8_t>(w.data(), n, k), zeros);
    std::vector<std::int32_t> want(static_cast<std::size_t>(m * n));
    for (index_t r = 0; r < m; ++r)
        for (index_t c = 0; c < n; ++c)
            for (index_t j = 0; j < k; ++j)
                want[static_cast<std::size_t>(r * n + c)] +=
                    (x[static_cast<std::size_t>(r * k + j)] - 7) *
                    (w[static_cast<std::size_t>(c * k + j)] - zeros[static_cast<std::size_t>(c)]);
    for (isa i : available_isas())
        for (index_t threads : {1, 2, 3, 5}) {
            INFO(to_string(i) << " " << threads);
            const thread_team team{threads};
            std::vector<std::int32_t> y(want.size());
            gemm(matrix_view<const std::uint8_t>(x.data(), m, k), p, make_epilogue(p, stage::accumulators{7}),
                 matrix_view<std::int32_t>(y.data(), m, n), context(i, team));
            CHECK(y == want);
        }
}

TEST_CASE("requantize from dense accumulators to rows with gaps, and back") {
    std::mt19937 g(5);
    const index_t m = 6, n = 21, gap = 30;
    std::vector<std::int32_t> dense(static_cast<std::size_t>(m * n)), apart(static_cast<std::size_t>(m * gap));
    for (index_t r = 0; r < m; ++r)
        for (index_t c = 0; c < n; ++c)
            apart[static_cast<std::size_t>(r * gap + c)] = dense[static_cast<std::size_t>(r * n + c)] =
                static_cast<std::int32_t>(g() % 60000) - 30000;
    const std::vector<std::int8_t> w(static_cast<std::size_t>(n * 300), 100); // sums that large are possible
    const packed_weights p = pack({w.data(), n, 300});
    const std::vector<float> scale{0.001f};
    const auto ep = make_epilogue(p, stage::requantize{{1.0f, 0}, scale, {0.3f, 128}});
    for (isa i : available_isas()) {
        INFO(to_string(i));
        std::vector<std::uint8_t> codes(static_cast<std::size_t>(m * n)), wide(static_cast<std::size_t>(m * gap), 77),
            back(codes.size());
        requantize(matrix_view<const std::int32_t>(dense.data(), m, n), ep,
                   matrix_view<std::uint8_t>(codes.data(), m, n), {}, context(i));
        requantize(matrix_view<const std::int32_t>(dense.data(), m, n), ep,
                   matrix_view<std::uint8_t>(wide.data(), m, n, gap), {}, context(i));
        requantize(matrix_view<const std::int32_t>(apart.data(), m, n, gap), ep,
                   matrix_view<std::uint8_t>(back.data(), m, n), {}, context(i));
        CHECK(back == codes);
        index_t wrong = 0;
        for (index_t r = 0; r < m; ++r)
            for (index_t c = 0; c < gap; ++c) {
                const auto at = static_cast<std::size_t>(r * n + c);
                const std::uint8_t expected =
                    c >= n ? std::uint8_t{77}
                           : static_cast<std::uint8_t>(requantize_float(
                                 dense[at],
                                 static_cast<float>(static_cast<double>(1.0f) * static_cast<double>(0.001f) /
                                                    static_cast<double>(0.3f)),
                                 128, {0, 255}));
                wrong += wide[static_cast<std::size_t>(r * gap + c)] != expected;
            }
        CHECK(wrong == 0);
    }
}
