#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The networks of models_cnn in INT8 on other libraries, in turns with notch's: batch 1, one thread and two.

The same shapes with random weights are built as ONNX models. ONNX Runtime's own tool quantizes them for itself and for
OpenVINO (static, QDQ, u8 activations, s8 weights per channel), TensorFlow's converter for LiteRT with XNNPACK (s8
activations, s8 weights per channel). Each round runs models_cnn and then each peer for some seconds; printed are the
medians of the rounds' medians, and with --out written as rows of scripts/models.sh, one for each network, peer and
number of threads. Needs what peers.py needs.
"""
import argparse
import pathlib
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import peers


class Graph:
    """Layers one after the other, as ONNX nodes with He-initialized weights."""

    def __init__(self, seed=1):
        self.nodes, self.weights = [], []
        self.random = np.random.default_rng(seed)

    def add(self, op, inputs, **attributes):
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def constant(self, values):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def conv(self, x, inputs, outputs, kernel=1, stride=1, groups=1, act=None, pads=None):
        fan_in = inputs // groups * kernel * kernel
        w = self.random.normal(0, (2 / fan_in) ** 0.5, (outputs, inputs // groups, kernel, kernel)).astype(np.float32)
        pads = pads or [kernel // 2] * 4
        y = self.add("Conv", [x, self.constant(w), self.constant(np.zeros(outputs, np.float32))],
                     kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads, group=groups)
        if act == "relu6":
            return self.add("Clip", [y, self.constant(np.float32(0)), self.constant(np.float32(6))])
        return self.add("Relu", [y]) if act == "relu" else y

    def classify(self, x, channels):
        x = self.add("Flatten", [self.add("GlobalAveragePool", [x])])
        w = self.random.normal(0, 0.03, (channels, 1000)).astype(np.float32)
        return self.add("Gemm", [x, self.constant(w), self.constant(np.zeros(1000, np.float32))])

    def model(self, y):
        graph = helper.make_graph(
            self.nodes, "network", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 224, 224])],
            [helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, 1000])], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def same(size, kernel, stride):
    pad = (-(-size // stride) - 1) * stride + kernel - size
    return [pad // 2, pad // 2, pad - pad // 2, pad - pad // 2]


def mobilenet_v2():
    g, size = Graph(), 112
    x = g.conv("x", 3, 32, 3, 2, act="relu6", pads=same(224, 3, 2))
    for stride, expand, inputs, outputs, repeats in [(1, 1, 32, 16, 1), (2, 6, 16, 24, 2), (2, 6, 24, 32, 3),
                                                     (2, 6, 32, 64, 4), (1, 6, 64, 96, 3), (2, 6, 96, 160, 3),
                                                     (1, 6, 160, 320, 1)]:
        for i in range(repeats):
            start, inputs, stride = x, inputs if i == 0 else outputs, stride if i == 0 else 1
            wide = inputs * expand
            if expand != 1:
                x = g.conv(x, inputs, wide, act="relu6")
            x = g.conv(x, wide, wide, 3, stride, wide, "relu6", same(size, 3, stride))
            size //= stride
            x = g.conv(x, wide, outputs)
            if stride == 1 and inputs == outputs:
                x = g.add("Add", [start, x])
    return g.model(g.classify(g.conv(x, 320, 1280, act="relu6"), 1280))


def resnet(repeats, bottleneck):
    g, inputs, width = Graph(), 64, 64
    x = g.add("MaxPool", [g.conv("x", 3, 64, 7, 2, act="relu")], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for stage, count in enumerate(repeats):
        for i in range(count):
            stride, outputs, start = 2 if stage and not i else 1, width * (4 if bottleneck else 1), x
            if bottleneck:
                x = g.conv(g.conv(x, inputs, width, act="relu"), width, width, 3, stride, act="relu")
            else:
                x = g.conv(x, inputs, width, 3, stride, act="relu")
            x = g.conv(x, width, outputs, 1 if bottleneck else 3)
            if stride != 1 or inputs != outputs:
                start = g.conv(start, inputs, outputs, 1, stride)
            x, inputs = g.add("Relu", [g.add("Add", [x, start])]), outputs
        width *= 2
    return g.model(g.classify(x, inputs))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, help="models_cnn")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1, help="of each turn")
    parser.add_argument("--only", help="one of the networks")
    parser.add_argument("--out", type=pathlib.Path, help="file of the rows")
    args = parser.parse_args()
    networks = {"mobilenet_v2": mobilenet_v2(), "resnet18": resnet([2, 2, 2, 2], False),
                "resnet50": resnet([3, 4, 6, 3], True)}
    random = np.random.default_rng(2)
    images = [random.uniform(-1, 1, (1, 3, 224, 224)).astype(np.float32) for _ in range(4)]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, model in networks.items():
            if args.only not in (None, name):
                continue
            path = f"{folder}/{name}.onnx"
            onnx.save(model, path)
            int8, tflite = peers.quantize_images(path, images), peers.litert_images(path, images)
            for threads in peers.usable(args.threads):
                command = [args.program, "--time", name, "--threads", threads, "--seconds", args.seconds]
                ours, theirs = peers.in_turns(command, peers.image_peers(int8, tflite, images[0], threads),
                                              args.rounds, args.seconds)
                rows += peers.rows(name, "static, per channel", ours[name], theirs, threads)
    if args.out:
        peers.write_rows(args.out, rows)


if __name__ == "__main__":
    main()
