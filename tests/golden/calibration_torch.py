# SPDX-License-Identifier: Apache-2.0
"""Ranges and parameters of torch's observers, and the quantization error of its HistogramObserver."""
import warnings

import torch
from torch.ao.quantization import observer as o

from sample import sample, show

warnings.simplefilter("ignore")
print("# torch", torch.__version__)
x = [torch.from_numpy(sample(5000, seed)) for seed in (1, 2, 3)]
relu = [torch.from_numpy(sample(5000, seed, relu=True)) for seed in (1, 2, 3)]


def run(key, obs, batches):
    for b in batches:
        obs(b)
    scale, zero_point = obs.calculate_qparams()
    show(key + ".range", torch.stack([obs.min_val.reshape(-1), obs.max_val.reshape(-1)], 1))
    show(key + ".scale", scale)
    show(key + ".zero_point", zero_point)
    return obs


for name, data in (("two", x), ("relu", relu)):
    run(name + ".min_max", o.MinMaxObserver(), data)
    run(name + ".min_max_s", o.MinMaxObserver(dtype=torch.qint8, qscheme=torch.per_tensor_symmetric,
                                              quant_min=-127, quant_max=127), data)
    run(name + ".moving_average", o.MovingAverageMinMaxObserver(averaging_constant=0.25), data)
    run(name + ".channel", o.PerChannelMinMaxObserver(ch_axis=1), [b.reshape(500, 10) for b in data])
    h = run(name + ".histogram", o.HistogramObserver(bins=256), data[:1])
    show(name + ".histogram.counts", h.histogram)
    show(name + ".histogram.searched", torch.stack(h._non_linear_param_search()))
    for begin, end in ((0, 255), (0, 200), (10, 180), (60, 190), (100, 160)):
        show(f"{name}.histogram.error.{begin}.{end}", h._compute_quantization_error(begin, end))
