// SPDX-License-Identifier: Apache-2.0
//
// notch/simd/cache.hpp: the sizes of this CPU's data caches, detected once (x86: the deterministic cache
// parameters of CPUID, leaf 4 or on AMD 8000001Dh), which blocks of work are cut to. Results never depend on
// them. Thread-safe.
#pragma once

#include <notch/core/config.hpp>
#include <notch/core/types.hpp>

#if NOTCH_X86_64 && defined(__GNUC__)
#include <cpuid.h>
#endif

NOTCH_NAMESPACE_BEGIN

/// In bytes. Where they cannot be found out, those of a small core of today.
struct cache_sizes {
    index_t l1 = index_t{32} << 10;
    index_t l2 = index_t{512} << 10;
    index_t l3 = index_t{4} << 20; ///< shared with other cores
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

inline cache_sizes detect_caches() noexcept {
    cache_sizes sizes;
#if NOTCH_X86_64 && defined(__GNUC__)
    for (unsigned leaf : {4u, 0x8000001du}) {
        bool found = false;
        for (unsigned i = 0; i < 16; ++i) {
            unsigned a = 0, b = 0, c = 0, d = 0;
            if (__get_cpuid_count(leaf, i, &a, &b, &c, &d) == 0) break;
            const unsigned type = a & 31u, level = a >> 5 & 7u;
            if (type == 0) break;
            if (type == 2) continue; // instructions
            const index_t ways = (b >> 22) + 1, partitions = (b >> 12 & 0x3ffu) + 1, line = (b & 0xfffu) + 1;
            const index_t size = ways * partitions * line * (index_t{c} + 1);
            if (level == 1) sizes.l1 = size;
            if (level == 2) sizes.l2 = size;
            if (level == 3) sizes.l3 = size;
            found = true;
        }
        if (found) break;
    }
    // Without a third level the second is the last.
    if (sizes.l3 < sizes.l2) sizes.l3 = sizes.l2;
#endif
    return sizes;
}

} // namespace detail

/// The caches of this CPU.
[[nodiscard]] inline const cache_sizes& cpu_caches() noexcept {
    static const cache_sizes sizes = detail::detect_caches();
    return sizes;
}

NOTCH_KEYED_END
