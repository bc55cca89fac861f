#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes arrays_numpy.npz and arrays_numpy_compressed.npz: NumPy's own files, for the readers of notch/io.

usage: arrays_numpy.py [folder]       (by default that of this script)
"""
import pathlib
import sys

import numpy as np

folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
arrays = {name: (np.arange(6) - 2).astype(name).reshape(2, 3)
          for name in "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64".split()}
arrays |= {"bool": np.array([True, False, True]), "scalar": np.float32(2.5), "empty": np.zeros((0, 4), np.int8),
           "layer/weight": np.full((1, 2, 1, 3), 7, np.int8), "zeros": np.zeros(1000, np.float32)}
np.savez(folder / "arrays_numpy.npz", **arrays)
np.savez_compressed(folder / "arrays_numpy_compressed.npz", **arrays)
