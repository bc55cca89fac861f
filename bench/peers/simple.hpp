// SPDX-License-Identifier: Apache-2.0
//
// A work made of a lambda: most libraries need no more.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "peer.hpp"

namespace bench {

/// Holds the results and what the lambda refers to.
class simple_work final : public work {
public:
    std::vector<std::uint8_t> codes; ///< these are the results if they are not empty
    std::vector<float> values;
    bool signed_codes = false; ///< codes hold s8, 128 below the u8 that they stand for
    std::function<void()> body;

    void run() override { body(); }
    output result() const override {
        output o{codes, values};
        if (signed_codes)
            for (std::uint8_t& v : o.codes) v = static_cast<std::uint8_t>(v ^ 0x80);
        return o;
    }
};

inline std::size_t result_count(const problem& p) { return static_cast<std::size_t>(p.rows() * p.outputs()); }

/// The inputs of gemm and the convolutions as floats, on the grid of the integer sums.
struct float_inputs {
    std::vector<float> x, w, bias;
    explicit float_inputs(const workload& from)
        : w(from.w.begin(), from.w.end()), bias(from.bias.begin(), from.bias.end()) {
        x.reserve(from.x.size() + 64);
        for (std::uint8_t v : from.x) x.push_back(static_cast<float>(v - from.p.x_zero_point));
    }
};

} // namespace bench
