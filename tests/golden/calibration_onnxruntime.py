# SPDX-License-Identifier: Apache-2.0
"""The histograms and thresholds of ONNX Runtime's calibrators."""
import contextlib
import io

import onnxruntime
from onnxruntime.quantization.calibrate import HistogramCollector

from sample import sample, show

print("# onnxruntime", onnxruntime.__version__)
for name, x in (("two", sample(20000, 1)), ("relu", sample(20000, 2, relu=True))):
    for method, symmetric in (("percentile", False), ("percentile", True), ("entropy", False)):
        with contextlib.redirect_stdout(io.StringIO()):
            c = HistogramCollector(method, symmetric, 512, 64, 98.765, "same")
            c.collect({"x": [x]})
            low, high, counts, edges = c.compute_collection_result()["x"]
        key = f"{name}.{method}" + (".symmetric" if symmetric else "")
        if method != "percentile":
            show(key + ".counts", counts)
        else:  # compute_percentile gives two counts only
            show(key + ".counts", c.get_histogram_dict()["x"][0])
            edges = c.get_histogram_dict()["x"][1]
        show(key + ".edges", [edges[0], edges[-1]])
        show(key, [low, high])
