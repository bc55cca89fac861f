// SPDX-License-Identifier: Apache-2.0
//
// Numbers of bits that are known only at run time, as notch's ranges, which are types.
#pragma once

#include <type_traits>

#include <notch/core/error.hpp>
#include <notch/scheme/range.hpp>

namespace ablation {

/// Weights: symmetric<Bits>; of two bits all four codes -2 ... 1, as in the papers, for -1 ... 1 are ternary.
template <int Bits>
using weight_range = std::conditional_t<Bits == 2, notch::symmetric_full<2>, notch::symmetric<Bits>>;

/// f(std::integral_constant<int, bits>) for the widths of the ablation: 8, 4, 3 and 2.
template <class F> auto with_bits(int bits, const F& f) {
    switch (bits) {
    case 8: return f(std::integral_constant<int, 8>());
    case 4: return f(std::integral_constant<int, 4>());
    case 3: return f(std::integral_constant<int, 3>());
    case 2: return f(std::integral_constant<int, 2>());
    default: break;
    }
    notch::fail(notch::errc::invalid_argument, "ablation: codes have 8, 4, 3 or 2 bits");
}

} // namespace ablation
