// SPDX-License-Identifier: Apache-2.0
//
// notch/simd/xsimd_compat.hpp: the few operations of xsimd that changed names between versions 8
// and 14, under one name.
#pragma once

#include <notch/core/config.hpp>

#include <xsimd/xsimd.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

template <class Batch> [[nodiscard]] typename Batch::value_type reduce_min(const Batch& v) noexcept {
#if XSIMD_VERSION_MAJOR >= 10
    return xsimd::reduce_min(v);
#else
    alignas(Batch::arch_type::alignment()) typename Batch::value_type lanes[Batch::size];
    v.store_aligned(lanes);
    auto r = lanes[0];
    for (std::size_t i = 1; i < Batch::size; ++i) r = lanes[i] < r ? lanes[i] : r;
    return r;
#endif
}

template <class Batch> [[nodiscard]] typename Batch::value_type reduce_max(const Batch& v) noexcept {
    return -reduce_min(-v);
}

} // namespace detail
NOTCH_KEYED_END
