#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An LSTM of the size of Silero VAD's (128 inputs, 128 hidden, batch 1) in INT8 on other libraries, in turns with
models_rnn --time: one thread and two.

A call runs a whole sequence, so that the way from Python into the library is a small part of it. Random weights, the
same for all peers, s8 per channel but in LiteRT, which knows one scale. ONNX Runtime (DynamicQuantizeLSTM) and LiteRT
quantize x and h while they run, OpenVINO has fixed ranges. (LiteRT's static kernel, of TensorFlow's converter with
samples, takes eight times as long as its dynamic one.) Prints how far each is from ONNX Runtime's fp32 and the medians
of the rounds; --out: rows of scripts/models.sh. Needs what peers.py needs, and tf_keras.
"""
import argparse
import os
import pathlib
import tempfile

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # whose LSTM the converter knows

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

import peers

SIZE = 128
STATE = np.zeros((1, 1, SIZE), np.float32)


def gates(order, values):
    """Rows of i o f c, the order of ONNX, in another one."""
    return np.concatenate([values["iofc".index(g) * SIZE:][:SIZE] for g in order])


def write_onnx(path, w, u, b, steps):
    tensors = [numpy_helper.from_array(v[None], n) for n, v in (("w", w), ("u", u), ("b", np.append(b, 0 * b)))]
    node = helper.make_node("LSTM", ["x", "w", "u", "b"], ["y"], hidden_size=SIZE)
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape)
            for n, shape in (("x", [steps, 1, SIZE]), ("y", [steps, 1, 1, SIZE])))
    graph = helper.make_graph([node], "lstm", [x], [y], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def openvino_model(w, u, b, steps):
    """The second input is h before the first step: if it is a constant, OpenVINO runs the cell in float. NNCF takes the
    range of h from it, which is zero, so fake quantization is put here by hand."""
    import openvino
    from openvino import opset13 as op

    def quantized(x, low, high, levels):
        low, high = (op.constant(np.asarray(v, np.float32)) for v in (low, high))
        return op.fake_quantize(x, low, high, low, high, levels)

    def weights(values):
        values = gates("fico", values)[None]
        most = np.abs(values).max(axis=2, keepdims=True)
        return quantized(op.constant(values), -most, most, 255)

    x, h = op.parameter([1, steps, SIZE], np.float32), op.parameter([1, 1, SIZE], np.float32)
    y = op.lstm_sequence(quantized(x, -128 / 127, 1, 256), quantized(h, -128 / 127, 1, 256), op.constant(STATE),
                         op.constant(np.array([steps])), weights(w), weights(u), op.constant(gates("fico", b)[None]),
                         SIZE, "forward")
    return openvino.Model([y.output(0)], [x, h], "lstm")


def litert_model(w, u, b, shape):
    import tensorflow as tf
    import tf_keras
    layer = tf_keras.layers.LSTM(SIZE, return_sequences=True)
    x = tf_keras.Input(batch_shape=shape)
    model = tf_keras.Model(x, layer(x))
    layer.set_weights([gates("ifco", w).T, gates("ifco", u).T, gates("ifco", b)])
    return peers.convert(tf.lite.TFLiteConverter.from_keras_model(model), static=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, help="models_rnn")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1, help="of each turn")
    parser.add_argument("--out", type=pathlib.Path, help="file of the rows")
    args = parser.parse_args()
    random = np.random.default_rng(1)
    w, u, b = (random.uniform(-SIZE**-0.5, SIZE**-0.5, shape).astype(np.float32)
               for shape in ((4 * SIZE, SIZE), (4 * SIZE, SIZE), 4 * SIZE))
    x = random.uniform(-1, 1, (1, args.steps, SIZE)).astype(np.float32)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        fp32, int8 = f"{folder}/fp32.onnx", f"{folder}/int8.onnx"
        write_onnx(fp32, w, u, b, args.steps)
        quantize_dynamic(fp32, int8, weight_type=QuantType.QInt8, op_types_to_quantize=["LSTM"], per_channel=True)
        kinds = [n.op_type for n in onnx.load(int8).graph.node]
        if "DynamicQuantizeLSTM" not in kinds:
            raise SystemExit(f"ONNX Runtime did not quantize the LSTM: {kinds}")
        vino, lite = openvino_model(w, u, b, args.steps), litert_model(w, u, b, x.shape)
        real = peers.onnxruntime_network(fp32)(x.transpose(1, 0, 2)).ravel()
        for threads in peers.usable(args.threads):
            networks = {"ONNX Runtime": peers.onnxruntime_network(int8, threads),
                        "OpenVINO": peers.openvino_network(vino, threads, others={1: STATE}),
                        "LiteRT": peers.litert_network(lite, threads)}
            for name, run in networks.items():
                y = run(x.transpose(1, 0, 2) if name.startswith("ONNX") else x).ravel()
                print(f"{name}: h differs from fp32 by at most {np.abs(y - real).max():.4f}")
            command = [args.program, "--time", args.steps, "--threads", threads, "--seconds", args.seconds]
            ours, theirs = peers.in_turns(command, networks, args.rounds, args.seconds)
            rows += peers.rows(f"lstm 128, {args.steps} steps", "static, per channel", ours["lstm"], theirs, threads)
    if args.out:
        peers.write_rows(args.out, rows)


if __name__ == "__main__":
    main()
