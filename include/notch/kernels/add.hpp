// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/add.hpp: residual add of u8 codes on two different grids. Definition in ref/add.hpp.
#pragma once

#include <cstdint>
#include <span>

#include <notch/core/view.hpp>
#include <notch/kernels/table.hpp>
#include <notch/ref/add.hpp>

#define NOTCH_BODY <notch/kernels/body/add.inl>
#include <notch/kernels/arch/for_each.inl>

NOTCH_KEYED_BEGIN
namespace detail {
NOTCH_KERNELS(add_kernels, add_tables[isa_count], NOTCH_KERNEL_TABLES(add_table));
} // namespace detail

/// y[i] = the code of a[i] + b[i]; p comes from make_add, with a range within 0..255 (make_add serves ref::add of s8
/// codes too). y may be a or b.
inline void add(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b, const add_params& p,
                std::span<std::uint8_t> y, const context& ctx = {}) {
    detail::check_equal("add", "the size of b", static_cast<index_t>(b.size()), static_cast<index_t>(a.size()));
    detail::check_equal("add", "the size of y", static_cast<index_t>(y.size()), static_cast<index_t>(a.size()));
    detail::check_span("add", "a", a);
    detail::check_span("add", "b", b);
    detail::check_span("add", "y", y);
    const auto is_code = [](std::int32_t zero_point) { return zero_point >= -128 && zero_point <= 255; };
    if (p.ma < 0 || p.ma > 32767 || p.mb < 0 || p.mb > 32767 || p.range.lo > p.range.hi || !is_code(p.a_zero_point) ||
        !is_code(p.b_zero_point) || !is_code(p.y_zero_point) ||
        !(p.multiplier > 0.0f && p.multiplier <= 4.0f)) // a ratio just below 2^16 is 2^14 * 4
        fail(errc::invalid_argument, "add: the parameters do not come from make_add");
    if (p.range.lo < 0 || p.range.hi > 255)
        fail(errc::invalid_argument, detail::cat("add: the range of codes is ", p.range.lo, "..", p.range.hi,
                                                 ", u8 codes need one within 0..255"));
    detail::kernels_for(detail::add_tables, ctx.target)
        .add_u8({a.data(), b.data(), y.data(), static_cast<index_t>(a.size()), p.a_zero_point, p.b_zero_point,
                 p.y_zero_point, p.ma, p.mb, p.multiplier, p.range.lo, p.range.hi});
}

NOTCH_KEYED_END
