#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""write_cases.py <file>: writes ONNX's own node tests of the quantization operators, from the installed `onnx`.

Its wheels up to 1.22 have these as folders (onnx/backend/test/data/node), later ones make them in memory. The file
is a message of Protocol Buffers, the parts as in those folders (model.onnx, input_<k>.pb, output_<k>.pb):

    message Cases   { repeated Case case = 1; }
    message Case    { string name = 1; bytes model = 2; repeated DataSet data = 3; }
    message DataSet { repeated bytes input = 1; repeated bytes output = 2; }
"""
import re
import sys

import numpy
import onnx
from onnx import numpy_helper
from onnx.backend.test.case import node

NAMES = re.compile(r"test_(basic_)?(quantizelinear|dequantizelinear|dynamicquantizelinear|convinteger|matmulinteger|"
                   r"qlinearmatmul|qlinearconv|cast)(_|$)")


def varint(n):
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)


def field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def tensor(value, info):
    if not isinstance(value, onnx.TensorProto):
        value = numpy_helper.from_array(numpy.asarray(value), info.name)
    return value.SerializeToString()


def case_bytes(case):
    graph = case.model.graph
    out = field(1, case.name.encode()) + field(2, case.model.SerializeToString())
    for inputs, outputs in case.data_sets:
        out += field(3, b"".join(field(1, tensor(v, i)) for v, i in zip(inputs, graph.input)) +
                     b"".join(field(2, tensor(v, i)) for v, i in zip(outputs, graph.output)))
    return out


def main(path):
    cases = sorted((c for c in node.collect_testcases() if NAMES.match(c.name)), key=lambda c: c.name)
    with open(path, "wb") as file:
        for case in cases:
            file.write(field(1, case_bytes(case)))
    print(f"onnx {onnx.__version__}: {len(cases)} cases in {path}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
