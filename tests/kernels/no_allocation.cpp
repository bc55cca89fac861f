// SPDX-License-Identifier: Apache-2.0
//
// Hot calls allocate nothing: operator new is replaced and counted.
#include "../catch.hpp"

#include <atomic>
#include <cstdlib>
#include <new>
#include <vector>

#include <notch/notch.hpp>

namespace {
std::atomic<long> allocations{0};
}

// The sanitizers replace these themselves.
#if !defined(__SANITIZE_ADDRESS__)
void* operator new(std::size_t n) {
    ++allocations;
    if (void* p = std::malloc(n ? n : 1)) return p;
    throw std::bad_alloc();
}
void* operator new(std::size_t n, std::align_val_t a) {
    ++allocations;
    const auto align = static_cast<std::size_t>(a);
    if (void* p = std::aligned_alloc(align, (n + align - 1) / align * align)) return p;
    throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
#endif

using namespace notch;

TEST_CASE("gemm, conv2d, depthwise, pooling, add and quantize allocate nothing") {
    const std::vector<float> scale{0.01f};
    const quant_params q{0.05f, 3};
    std::vector<std::int8_t> weights(20 * 9 * 8, 3);
    std::vector<std::uint8_t> x(10 * 10 * 20, 9), y(10 * 10 * 20);
    std::vector<float> real(x.size());
    const window s = window::square(3, 1, 1);
    const auto w = pack({weights.data(), 20, 72});
    const auto c = pack_conv2d(weights, 20, 8, s);
    const auto d = pack_depthwise(std::span(weights).first(180), 20, s);
    const auto we = make_epilogue(w, stage::requantize{q, scale, q});
    const auto ce = make_epilogue(c, stage::requantize{q, scale, q}, stage::relu6{});
    const auto de = make_epilogue(d, stage::requantize{q, scale, q});
    const auto ap = make_add(q, q, q);
    for (isa i : available_isas()) {
        context ctx(i);
        std::vector<std::byte> memory(static_cast<std::size_t>(
            std::max({conv2d_workspace_size(c, 1, 10, 10, ctx), depthwise_workspace_size(d, 1, 10, 10, ctx), pool_workspace_size(s, ctx)})));
        ctx.workspace = memory;
        const long before = allocations;
        gemm(matrix_view<const std::uint8_t>(x.data(), 20, 72), w, we, matrix_view<std::uint8_t>(y.data(), 20, 20), ctx);
        conv2d(nhwc_view<const std::uint8_t>(x.data(), 1, 10, 10, 8), c, ce, nhwc_view<std::uint8_t>(y.data(), 1, 10, 10, 20), ctx);
        depthwise(nhwc_view<const std::uint8_t>(x.data(), 1, 10, 10, 20), d, de, nhwc_view<std::uint8_t>(y.data(), 1, 10, 10, 20), ctx);
        max_pool(nhwc_view<const std::uint8_t>(x.data(), 1, 10, 10, 20), s, nhwc_view<std::uint8_t>(y.data(), 1, 10, 10, 20), ctx);
        average_pool(nhwc_view<const std::uint8_t>(x.data(), 1, 10, 10, 20), q, s, q, nhwc_view<std::uint8_t>(y.data(), 1, 10, 10, 20), ctx);
        add(x, x, ap, y, ctx);
        dequantize<std::uint8_t>(x, q, real, ctx);
        quantize<affine<8>>(real, q, y, ctx);
        CHECK(allocations == before);
    }
}
