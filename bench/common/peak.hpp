// SPDX-License-Identifier: Apache-2.0
//
// What the hardware can do at most: loops of the one instruction (or the shortest exact sequence)
// that the products of an instruction set need, without a load or a store, and loops that only
// read or copy. Clocks drift, so a benchmark runs them next to its own loop and quotes its share.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "problem.hpp"
#include "timing.hpp"

namespace bench {

/// A loop to time: amount of work in one call, in operations (2 for each product) or bytes.
struct peak_loop {
    std::string name;
    double amount = 0;
    std::function<void()> run;
    bool memory = false; ///< bandwidth, not products
};

/// Loops of products for kernels of an instruction set (by notch's name): u8 x s8 exactly for any
/// codes; with seven_bits where two products cannot exceed 16 bits; or f32. Empty name if there are none.
peak_loop product_peak(std::string_view isa, bool seven_bits);
peak_loop float_peak(std::string_view isa);

/// Loops that read `bytes` from as few and as many streams as help, with the vectors of isa.
std::vector<peak_loop> read_peaks(std::string_view isa, std::size_t bytes);
/// Loops that copy bytes / 2, so that they move `bytes` in all; plain and non-temporal stores.
std::vector<peak_loop> copy_peaks(std::string_view isa, std::size_t bytes);

/// What bounds a problem on isa: products, and for gemm with at most 8 rows reads of the weights;
/// reads of all its bytes (elementwise, from L2) or copies of them (larger). amount is in the unit
/// of problem::operations, so that amount / time compares with operations / time. The fastest loop
/// over memory and the loop of products each are a bound, the lower one counts.
std::vector<peak_loop> bounds(const problem& p, std::string_view isa);

/// The bound that timings of these loops give, in 1e9 operations a second; 0 without loops. Products
/// grow with the threads.
struct bound {
    std::string name;
    double gops = 0;
};
bound tightest(std::span<const peak_loop> loops, std::span<const timing> times, int threads);

} // namespace bench
