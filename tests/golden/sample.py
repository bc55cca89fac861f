# SPDX-License-Identifier: Apache-2.0
"""Values that Python and C++ make alike, bit for bit (golden.hpp has the same function)."""
import numpy as np


def sample(n, seed, relu=False):
    x = np.empty(n, np.float32)
    s = seed
    for i in range(n):
        s = (s * 1664525 + 1013904223) % 2**32
        t = np.float32((s >> 8) / 2**23 - 1)  # exact, in [-1, 1)
        x[i] = t / (np.float32(1.05) - np.abs(t))  # long tails, up to 20
    return np.maximum(x, np.float32(0)) if relu else x


def show(key, values):
    print(key, *(format(float(v), ".17g") for v in np.asarray(values).reshape(-1)))
