# SPDX-License-Identifier: Apache-2.0
"""Percentiles of NumPy, and the published entropy calibration written with NumPy."""
import numpy as np

from sample import sample, show

print("# numpy", np.__version__)


def entropy_index(bins, levels):
    """The number of bins kept, after S. Migacz, GTC 2017. Bin j of i is in level floor(j * levels / i).

    The bin of 0 counts as its neighbour, as in NVIDIA's pytorch-quantization."""
    bins = np.concatenate([bins[1:2], bins[1:]])
    best, least = None, np.inf
    for i in range(levels, len(bins) + 1):
        p = bins[:i].astype(np.float64)
        p[-1] += bins[i:].sum()
        level = np.arange(i) * levels // i
        joined = np.bincount(level, bins[:i], levels)
        filled = np.bincount(level, bins[:i] != 0, levels)
        q = np.where(bins[:i] != 0, (joined / np.maximum(filled, 1))[level], 0)
        if q.sum() == 0 or np.any((p > 0) & (q == 0)):
            continue
        p, q = p / p.sum(), q / q.sum()
        some = p > 0
        d = np.sum(p[some] * np.log(p[some] / q[some]))
        if d <= least:
            best, least = i, d
    return best, least


for name, x in (("two", sample(20000, 1)), ("relu", sample(20000, 2, relu=True))):
    for percent in (99.99, 99.0, 73.5):
        cut = (100 - percent) / 2
        show(f"{name}.percentile.{percent:g}", np.percentile(x.astype(np.float64), [cut, 100 - cut]))
        show(f"{name}.magnitude.{percent:g}", np.percentile(np.abs(x.astype(np.float64)), percent))
    bins, edges = np.histogram(np.abs(x), 1024, range=(0, 20.0))
    show(f"{name}.bins", bins)
    for levels in (32, 128):
        best, least = entropy_index(bins, levels)
        show(f"{name}.entropy.{levels}", [best, least])
