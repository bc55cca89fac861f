// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/lookup.hpp: activations on 8-bit codes through a table of 256 codes. Definition, and
// make_lookup, in ref/lookup.hpp; the functions in ref/functions.hpp.
//
//     const auto gelu = notch::make_lookup<std::uint8_t, std::int8_t>(notch::functions::gelu, x_params, y_params);
//     notch::lookup(x, gelu, y);
#pragma once

#include <cstdint>
#include <span>
#include <type_traits>

#include <notch/core/view.hpp>
#include <notch/kernels/split.hpp>
#include <notch/kernels/table.hpp>
#include <notch/ref/lookup.hpp>

NOTCH_NAMESPACE_BEGIN

struct lookup_args {
    const std::uint8_t* x = nullptr;
    const std::uint8_t* table = nullptr; ///< 256 bytes
    std::uint8_t* y = nullptr;
    index_t rows = 1, cols = 0, ldx = 0, ldy = 0;
};
struct lookup_kernels {
    void (*lookup_bytes)(const lookup_args&) = nullptr;
};

NOTCH_NAMESPACE_END

#define NOTCH_BODY <notch/kernels/body/lookup.inl>
#define NOTCH_BODY_VBMI
#include <notch/kernels/arch/for_each.inl>

NOTCH_KEYED_BEGIN
namespace detail {

NOTCH_KERNELS(lookup_kernels, lookup_tables[isa_count], NOTCH_KERNEL_TABLES(lookup_kernel_table));
NOTCH_KERNELS(lookup_kernels, lookup_vbmi, NOTCH_KERNEL_TABLE_VBMI(lookup_kernel_table));

[[nodiscard]] inline const lookup_kernels& lookup_kernels_for(isa i) noexcept {
    return has_vbmi(i) ? *lookup_vbmi : kernels_for(lookup_tables, i);
}

} // namespace detail

/// y[i] = table[x[i]]. y may be x. Allocates nothing; long spans are shared out over ctx.executor.
template <byte_code X, byte_code Y>
void lookup(std::span<const std::type_identity_t<X>> x, const lookup_table<X, Y>& table,
            std::span<std::type_identity_t<Y>> y, const context& ctx = {}) {
    detail::check_equal("lookup", "the size of y", static_cast<index_t>(y.size()), static_cast<index_t>(x.size()));
    detail::check_span("lookup", "x", x);
    detail::check_span("lookup", "y", y);
    const auto* from = reinterpret_cast<const std::uint8_t*>(x.data());
    auto* to = reinterpret_cast<std::uint8_t*>(y.data());
    const lookup_kernels& k = detail::lookup_kernels_for(ctx.target);
    detail::split(ctx.executor, static_cast<index_t>(x.size()), 16384, [&](index_t begin, index_t end) {
        k.lookup_bytes({from + begin, table.bytes, to + begin, 1, end - begin, 0, 0});
    });
}

NOTCH_KEYED_END
