// SPDX-License-Identifier: Apache-2.0
//
// What the ablation compares: the methods, the widths that each is run with, and why the others are left out.
#pragma once

#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ablation {

/// Bits of weights that are no whole number of them.
inline constexpr double ternary_bits = 1.58, binary_bits = 1;

struct widths {
    double weights = 8; ///< 8, 4, 3, 2, ternary_bits or binary_bits
    int activations = 8;
    friend bool operator==(const widths&, const widths&) = default;
};

/// "W4A8", "W ternary A8"
inline std::string to_string(const widths& w) {
    std::string name = w.weights == ternary_bits  ? "W ternary A"
                       : w.weights == binary_bits ? "W binary A"
                                                  : "W" + std::to_string(static_cast<int>(w.weights)) + "A";
    name += std::to_string(w.activations);
    return name;
}

/// All that there are: six widths of weights, four of activations.
inline std::vector<widths> all_widths() {
    std::vector<widths> all;
    for (double w : {8.0, 4.0, 3.0, 2.0, ternary_bits, binary_bits})
        for (int a : {8, 4, 3, 2}) all.push_back({w, a});
    return all;
}

enum class family { post_training, training };

struct method {
    const char* name;
    const char* title;
    family when;
};

/// Rounding to the nearest code is what all post-training methods do but adaround, brecq and gptq: with the scales of
/// `mse` it is what these three are to beat.
inline constexpr std::array methods{
    method{"min_max_tensor", "min-max, per tensor", family::post_training},
    method{"min_max_channel", "min-max, per channel", family::post_training},
    method{"percentile", "percentile", family::post_training},
    method{"entropy", "entropy of activations", family::post_training},
    method{"mse", "least squared error, nearest", family::post_training},
    method{"equalize", "equalization, per tensor", family::post_training},
    method{"equalize_correct", "equalization + bias correction, per tensor", family::post_training},
    method{"smooth_quant", "SmoothQuant", family::post_training},
    method{"hqq", "HQQ", family::post_training},
    method{"gptq", "GPTQ", family::post_training},
    method{"adaround", "AdaRound", family::post_training},
    method{"brecq", "BRECQ", family::post_training},
    method{"straight_through", "straight-through min-max", family::training},
    method{"learned_range", "learned min-max of activations", family::training},
    method{"lsq", "LSQ", family::training},
    method{"lsq_error", "LSQ from least squared error", family::training},
    method{"lsq_plus", "LSQ+", family::training},
    method{"tqt", "TQT", family::training},
    method{"pact", "PACT, min-max weights", family::training},
    method{"pact_dorefa", "PACT, DoReFa weights", family::training},
    method{"twn", "TWN", family::training},
    method{"binary_connect", "BinaryConnect", family::training},
    method{"xnor", "BWN (XNOR weights)", family::training},
};

/// What the library has besides, and why it is not among them.
struct absent_method {
    const char *name, *reason;
};
inline constexpr std::array absent_methods{
    absent_method{"dynamic range", "its activations have 8 bits alone; the demo compares it"},
    absent_method{"AWQ", "it is for weights in groups with float activations, which the training layers do not have"},
    absent_method{"Hadamard rotation", "a ReLU or a depthwise layer between two layers does not commute with it"},
    absent_method{"high-bias absorption", "a step of equalization for channels that a ReLU never cuts; not run yet"},
    absent_method{"A2Q", "its widths are those of accumulators"},
    absent_method{"DoReFa activations and gradients",
                  "clipped to [0, 1], which networks trained without that do not keep; "
                  "pact_dorefa learns the bound"},
    absent_method{"binary and ternary activations", "the training layers take codes of at least two bits between them"},
};

inline const method* find_method(std::string_view name) {
    const auto found = std::find_if(methods.begin(), methods.end(), [&](const method& m) { return m.name == name; });
    return found == methods.end() ? nullptr : found;
}

/// What matters of a network.
struct network_traits {
    bool batch_norm = false; ///< in any layer
    bool chains = false;     ///< layers in a row that can be equalized
};

/// Why a method is not run with these widths on such a network; nothing if it is.
inline std::optional<std::string> why_not(const method& m, const widths& w, const network_traits& net) {
    const std::string_view name = m.name;
    const bool few = w.weights == ternary_bits || w.weights == binary_bits;
    const auto is_any_of = [&](auto... names) { return ((name == names) || ...); };

    // What no network could do.
    if (name == "twn" && w.weights != ternary_bits) return "its weights are ternary";
    if (is_any_of("binary_connect", "xnor") && w.weights != binary_bits) return "its weights are binary";
    if (few && !is_any_of("twn", "binary_connect", "xnor"))
        return m.when == family::post_training
                   ? "ternary and binary weights are trained: no post-training method of the library makes them"
                   : "ternary and binary weights have methods of their own: twn, binary_connect, xnor";
    if (name == "hqq" && w.weights == 8)
        return "its zero points: codes of 8 bits less a zero point do not fit the int8 that the kernels take";
    if (name == "pact_dorefa" && w.weights == 8)
        return "dorefa_weights have 2 to 7 bits: their codes are the odd int8 numbers";
    // What this network cannot.
    if (is_any_of("pact_dorefa", "binary_connect") && net.batch_norm)
        return "its weights have a fixed magnitude, in which what a folded batch norm scales is lost; the layers "
               "refuse "
               "it";
    if (is_any_of("equalize", "equalize_correct", "smooth_quant") && !net.chains)
        return "the network has no layers in a row between which a scale can move";
    // What tells nothing.
    if (is_any_of("gptq", "adaround", "brecq") && w.weights == 8)
        return "it chooses roundings, of which those of 8 bits cost nothing that could be won back";
    if (name == "entropy" && w.weights != 8 && w.activations == 8)
        return "it chooses ranges of activations alone: W8 shows them";

    // The pairs that are run: the widths of one with the other at 8 bits, and both together.
    static constexpr widths post[] = {{8, 8}, {4, 8}, {3, 8}, {2, 8}, {8, 4}, {8, 3}, {8, 2}, {4, 4}, {3, 3}, {2, 2}};
    static constexpr widths trained[] = {{8, 8}, {4, 8}, {2, 8}, {4, 4}, {3, 3}, {2, 2}};
    static constexpr widths special[] = {{ternary_bits, 8}, {ternary_bits, 4}, {ternary_bits, 2},
                                         {binary_bits, 8},  {binary_bits, 4},  {binary_bits, 2}};
    const auto has = [&](std::span<const widths> list) { return std::find(list.begin(), list.end(), w) != list.end(); };
    if (few ? !has(special) : m.when == family::post_training ? !has(post) : !has(trained))
        return "not among the pairs of widths that are run, for time";
    if (w.weights == 8 && w.activations < 8 &&
        !is_any_of("min_max_tensor", "min_max_channel", "percentile", "entropy", "mse", "smooth_quant"))
        return "with 8-bit weights and fewer activation bits only methods for activations are of interest";
    return std::nullopt;
}

/// The short run: few methods, and three pairs of widths.
inline bool in_quick_run(const method& m, const widths& w) {
    static constexpr std::string_view some[] = {"min_max_tensor", "min_max_channel",  "mse", "equalize_correct",
                                                "gptq",           "straight_through", "lsq"};
    static constexpr widths pairs[] = {{8, 8}, {4, 8}, {2, 2}};
    return std::find(std::begin(some), std::end(some), m.name) != std::end(some) &&
           std::find(std::begin(pairs), std::end(pairs), w) != std::end(pairs);
}

} // namespace ablation
