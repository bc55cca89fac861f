// SPDX-License-Identifier: Apache-2.0
//
// notch/layers/recurrent_math.hpp: the float arithmetic of LSTM and GRU cells between their products, forward and
// backward. Called by layers/recurrent.hpp, which is for users; formulas in ref/recurrent.hpp.
#pragma once

#include <Eigen/Core>

#include <notch/layers/frozen_recurrent.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

using float_row = Eigen::Map<Eigen::Array<float, 1, Eigen::Dynamic>>;
using const_float_row = Eigen::Map<const Eigen::Array<float, 1, Eigen::Dynamic>>;

/// The float arithmetic of one row of a cell. forward: zx and zh are W x + b and U h + b'; kept what backward reads.
/// backward: dh of the row, dstate of the next state, which becomes that of the state before.
template <class Cell> struct cell_math;

template <> struct cell_math<lstm_cell> {
    static constexpr index_t kept = 5;         ///< i f g o tanh(c')
    static constexpr bool shared_gates = true; ///< the gradients of zx and zh are one

    template <class Z> static auto sigmoid(const Z& z) { return 1.0f / (1.0f + (-z).exp()); }

    static void forward(const float* zx, const float* zh, const float* state, index_t n, float* k, float* next,
                        float* h) {
        const auto z = [&](index_t gate) {
            return const_float_row(zx + gate * n, n) + const_float_row(zh + gate * n, n);
        };
        float_row i(k, n), f(k + n, n), g(k + 2 * n, n), o(k + 3 * n, n), t(k + 4 * n, n);
        i = sigmoid(z(0));
        f = sigmoid(z(1));
        g = z(2).tanh();
        o = sigmoid(z(3));
        float_row(next, n) = f * const_float_row(state, n) + i * g;
        t = const_float_row(next, n).tanh();
        float_row(h, n) = o * t;
    }
    static void backward(const float* k, const float* state, const float* dh_row, index_t n, float* dstate_row,
                         float* dzx, float*) {
        const const_float_row i(k, n), f(k + n, n), g(k + 2 * n, n), o(k + 3 * n, n), t(k + 4 * n, n), dh(dh_row, n),
            c(state, n);
        float_row dc(dstate_row, n);
        dc += dh * o * (1.0f - t * t);
        float_row(dzx, n) = dc * g * i * (1.0f - i);
        float_row(dzx + n, n) = dc * c * f * (1.0f - f);
        float_row(dzx + 2 * n, n) = dc * i * (1.0f - g * g);
        float_row(dzx + 3 * n, n) = dh * t * o * (1.0f - o);
        dc *= f;
    }
    /// What h is before it becomes a code.
    static float output(const float* k, const float*, index_t n, index_t j) { return k[3 * n + j] * k[4 * n + j]; }
};

template <> struct cell_math<gru_cell> {
    static constexpr index_t kept = 4; ///< r z n, and U h + b' of n
    static constexpr bool shared_gates = false;

    static void forward(const float* zx, const float* zh, const float* state, index_t n, float* k, float* next,
                        float* h) {
        const auto x = [&](index_t gate) { return const_float_row(zx + gate * n, n); };
        const auto u = [&](index_t gate) { return const_float_row(zh + gate * n, n); };
        float_row r(k, n), z(k + n, n), c(k + 2 * n, n);
        r = cell_math<lstm_cell>::sigmoid(x(0) + u(0));
        z = cell_math<lstm_cell>::sigmoid(x(1) + u(1));
        c = (x(2) + r * u(2)).tanh();
        float_row(k + 3 * n, n) = u(2);
        float_row(next, n) = (1.0f - z) * c + z * const_float_row(state, n);
        float_row(h, n) = const_float_row(next, n);
    }
    static void backward(const float* k, const float* state, const float* dh, index_t n, float* dstate_row, float* dzx,
                         float* dzh) {
        const const_float_row r(k, n), z(k + n, n), c(k + 2 * n, n), u(k + 3 * n, n), last(state, n);
        float_row d(dstate_row, n);
        d += const_float_row(dh, n);
        float_row dr(dzx, n), dz(dzx + n, n), dc(dzx + 2 * n, n);
        dc = d * (1.0f - z) * (1.0f - c * c);
        dz = d * (last - c) * z * (1.0f - z);
        dr = dc * u * r * (1.0f - r);
        float_row(dzh, n) = dr;
        float_row(dzh + n, n) = dz;
        float_row(dzh + 2 * n, n) = dc * r;
        d *= z;
    }
    static float output(const float*, const float* next, index_t, index_t j) { return next[j]; }
};

} // namespace detail
NOTCH_KEYED_END
