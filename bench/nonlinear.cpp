// SPDX-License-Identifier: Apache-2.0
//
// Activations by lookup table, softmax, norms, products, concat and embedding, on every instruction set of this CPU.
// Rows of 64, 512 and 768 columns as attention and transformers have them, in L2; lookup in L1, L2 and memory.
// items_per_second counts elements of the output, bytes_per_second what is read and written. copy is memcpy,
// to compare with.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include <notch/kernels/concat.hpp>
#include <notch/kernels/embedding.hpp>
#include <notch/kernels/lookup.hpp>
#include <notch/kernels/multiply.hpp>
#include <notch/kernels/norm.hpp>
#include <notch/kernels/softmax.hpp>

namespace {

using notch::index_t;
using u8 = std::uint8_t;
const notch::quant_params x_params{0.04f, 120}, y_params{0.03f, 128};

template <class T> std::vector<T> codes(index_t n) {
    std::vector<T> v(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<T>(i * 97 + (i >> 8));
    return v;
}

template <class F> void loop(benchmark::State& state, index_t n, index_t bytes_each, const F& f) {
    for (auto _ : state) {
        f();
        benchmark::ClobberMemory();
    }
    state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()) * n);
    state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * n * bytes_each);
}

void copy(benchmark::State& state, notch::isa, index_t n) {
    const auto x = codes<u8>(n);
    std::vector<u8> y(x.size());
    loop(state, n, 2, [&] { std::memcpy(y.data(), x.data(), y.size()); });
}
void lookup(benchmark::State& state, notch::isa isa, index_t n) {
    const auto x = codes<u8>(n);
    std::vector<u8> y(x.size());
    const auto gelu = notch::make_lookup<u8, u8>(notch::functions::gelu, x_params, y_params);
    loop(state, n, 2, [&, ctx = notch::context(isa)] { notch::lookup(x, gelu, y, ctx); });
}

/// Rows of cols columns, 128 Ki elements in all.
struct matrix {
    index_t rows, cols;
    explicit matrix(index_t columns) : rows(131072 / columns), cols(columns) {}
    [[nodiscard]] index_t size() const { return rows * cols; }
    template <class T> notch::matrix_view<T> operator()(T* p) const { return {p, rows, cols}; }
};

void softmax(benchmark::State& state, notch::isa isa, index_t cols) {
    const matrix m(cols);
    const auto x = codes<u8>(m.size());
    std::vector<u8> y(x.size());
    const auto p = notch::make_softmax(0.1f);
    loop(state, m.size(), 2, [&, ctx = notch::context(isa)] { notch::softmax(m(x.data()), p, m(y.data()), ctx); });
}
void softmax_s32(benchmark::State& state, notch::isa isa, index_t cols) {
    const matrix m(cols);
    std::vector<std::int32_t> x(static_cast<std::size_t>(m.size()));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<std::int32_t>(i * 7919 % 20001) - 10000;
    std::vector<u8> y(x.size());
    const auto p = notch::make_softmax_s32(1e-3f);
    const notch::matrix_view<const std::int32_t> in(x.data(), m.rows, m.cols);
    loop(state, m.size(), 5, [&, ctx = notch::context(isa)] { notch::softmax(in, p, m(y.data()), ctx); });
}
template <class X> void norm(benchmark::State& state, notch::isa isa, index_t cols, bool rms) {
    const matrix m(cols);
    const auto x = codes<X>(m.size());
    std::vector<u8> y(x.size());
    const std::vector<float> gamma(static_cast<std::size_t>(cols), 1.1f), beta(gamma.size(), 0.1f);
    const notch::quant_params xp{0.04f, 0};
    const auto p = rms ? notch::make_rms_norm<X, u8>(cols, xp, 1e-5f, gamma, y_params)
                       : notch::make_layer_norm<X, u8>(cols, xp, 1e-5f, gamma, beta, y_params);
    loop(state, m.size(), 1 + static_cast<index_t>(sizeof(X)),
         [&, ctx = notch::context(isa)] { notch::norm(m(x.data()), p, m(y.data()), ctx); });
}
void layer_norm(benchmark::State& state, notch::isa isa, index_t cols) { norm<u8>(state, isa, cols, false); }
void layer_norm_s16(benchmark::State& state, notch::isa isa, index_t cols) {
    norm<std::int16_t>(state, isa, cols, false);
}
void rms_norm(benchmark::State& state, notch::isa isa, index_t cols) { norm<u8>(state, isa, cols, true); }

void multiply(benchmark::State& state, notch::isa isa, index_t cols) {
    const matrix m(cols);
    const auto x = codes<u8>(m.size());
    std::vector<u8> y(x.size());
    const auto p = notch::make_multiply<u8, u8, u8>(x_params, x_params, y_params);
    loop(state, m.size(), 3,
         [&, ctx = notch::context(isa)] { notch::multiply(m(x.data()), m(x.data()), p, m(y.data()), ctx); });
}
void multiply_channels(benchmark::State& state, notch::isa isa, index_t cols) {
    const matrix m(cols);
    const auto x = codes<u8>(m.size());
    std::vector<u8> y(x.size());
    const auto p = notch::make_multiply<u8, u8, u8>(x_params, x_params, y_params);
    const notch::matrix_view<const u8> channels(x.data(), 1, cols);
    loop(state, m.size(), 2,
         [&, ctx = notch::context(isa)] { notch::multiply(m(x.data()), channels, p, m(y.data()), ctx); });
}
/// Two inputs, one of them rescaled.
void concat(benchmark::State& state, notch::isa isa, index_t cols) {
    const matrix m(cols);
    const auto x = codes<u8>(m.size());
    std::vector<u8> y(x.size());
    const index_t half = cols / 2;
    const notch::matrix_view<const u8> in[] = {{x.data(), m.rows, half, cols}, {x.data() + half, m.rows, half, cols}};
    const notch::concat_params<u8> p[] = {notch::make_concat<u8>(x_params, y_params),
                                          notch::make_concat<u8>(y_params, y_params)};
    loop(state, m.size(), 2, [&, ctx = notch::context(isa)] { notch::concat<u8>(in, p, m(y.data()), ctx); });
}
/// Every row rescaled from its own scale.
void embedding(benchmark::State& state, notch::isa isa, index_t cols) {
    const matrix m(cols);
    const auto x = codes<u8>(m.size());
    std::vector<u8> y(x.size());
    const std::vector<float> scales(static_cast<std::size_t>(m.rows), 0.02f);
    std::vector<std::int32_t> indices(scales.size());
    for (std::size_t i = 0; i < indices.size(); ++i) indices[i] = static_cast<std::int32_t>(i * 31 % indices.size());
    const notch::embedding_table<u8> table{notch::matrix_view<const u8>(x.data(), m.rows, m.cols), scales, {}};
    loop(state, m.size(), 2, [&, ctx = notch::context(isa)] {
        notch::embedding(table, std::span<const std::int32_t>(indices), y_params, m(y.data()), ctx);
    });
}

} // namespace

int main(int argc, char** argv) {
    using function = void (*)(benchmark::State&, notch::isa, index_t);
    const auto add = [](const char* name, notch::isa isa, index_t n, function f) {
        benchmark::RegisterBenchmark((std::string(name) + "__" + to_string(isa) + "/" + std::to_string(n)).c_str(),
                                     [=](benchmark::State& state) { f(state, isa, n); });
    };
    const std::pair<const char*, function> rows[] = {
        {"softmax_u8", softmax},
        {"softmax_s32", softmax_s32},
        {"layer_norm_u8", layer_norm},
        {"layer_norm_s16", layer_norm_s16},
        {"rms_norm_u8", rms_norm},
        {"multiply_u8", multiply},
        {"multiply_channels_u8", multiply_channels},
        {"concat_u8", concat},
        {"embedding_u8", embedding},
    };
    for (index_t n : {index_t{4096}, index_t{131072}, index_t{16777216}}) {
        add("copy", notch::isa::scalar, n, copy);
        for (notch::isa isa : notch::available_isas()) add("lookup", isa, n, lookup);
    }
    for (const auto& [name, f] : rows)
        for (index_t cols : {index_t{64}, index_t{512}, index_t{768}})
            for (notch::isa isa : notch::available_isas()) add(name, isa, cols, f);
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    benchmark::RunSpecifiedBenchmarks();
}
