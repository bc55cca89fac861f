#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An LSTM of the size of Silero VAD's (128 inputs, 128 hidden, batch 1) in INT8 on other libraries, in turns with
models_rnn --time: one thread and two.

A call runs a whole sequence, so that the way from Python into the library is a small part of it. Random weights, the
same for all peers. ONNX Runtime quantizes the weights per channel and the rest while it runs (DynamicQuantizeLSTM),
OpenVINO statically (NNCF), LiteRT statically (TensorFlow's converter; c in 16 bits). Prints how far each is from ONNX
Runtime's fp32 and the medians of the rounds; --out: rows of scripts/models.sh. Needs what peers.py needs, and nncf and
tf_keras.
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


def gates(order, values):
    """Rows of i o f c, the order of ONNX, in another one."""
    return np.concatenate([values["iofc".index(g) * SIZE:][:SIZE] for g in order])


def write_onnx(path, w, u, b, steps):
    tensors = [numpy_helper.from_array(v[None], n) for n, v in (("w", w), ("u", u), ("b", np.append(b, 0 * b)))]
    node = helper.make_node("LSTM", ["x", "w", "u", "b"], ["y"], hidden_size=SIZE)
    graph = helper.make_graph([node], "lstm", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [steps, 1, SIZE])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [steps, 1, 1, SIZE])], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def openvino_model(w, u, b, samples):
    import nncf
    import openvino
    from openvino import opset13 as op
    steps = samples[0].shape[1]
    x = op.parameter([1, steps, SIZE], np.float32)
    zero = np.zeros((1, 1, SIZE), np.float32)
    y = op.lstm_sequence(x, op.constant(zero), op.constant(zero), op.constant(np.array([steps])),
                         *(op.constant(gates("fico", v)[None]) for v in (w, u, b)), SIZE, "forward")
    return nncf.quantize(openvino.Model([y.output(0)], [x], "lstm"), nncf.Dataset(samples), subset_size=len(samples))


def litert_model(w, u, b, samples):
    import tensorflow as tf
    import tf_keras
    layer = tf_keras.layers.LSTM(SIZE, return_sequences=True)
    x = tf_keras.Input(batch_shape=samples[0].shape)
    model = tf_keras.Model(x, layer(x))
    layer.set_weights([gates("ifco", w).T, gates("ifco", u).T, gates("ifco", b)])
    return peers.convert(tf.lite.TFLiteConverter.from_keras_model(model), samples)


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
    w, u, b = (random.uniform(-SIZE**-0.5, SIZE**-0.5, s).astype(np.float32) for s in ((4 * SIZE, SIZE),) * 2 + ((4 * SIZE,),))
    samples = [random.uniform(-1, 1, (1, args.steps, SIZE)).astype(np.float32) for _ in range(16)]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        fp32, int8 = f"{folder}/fp32.onnx", f"{folder}/int8.onnx"
        write_onnx(fp32, w, u, b, args.steps)
        quantize_dynamic(fp32, int8, weight_type=QuantType.QInt8, op_types_to_quantize=["LSTM"], per_channel=True)
        kinds = [n.op_type for n in onnx.load(int8).graph.node]
        if "DynamicQuantizeLSTM" not in kinds:
            raise SystemExit(f"ONNX Runtime did not quantize the LSTM: {kinds}")
        vino, lite = openvino_model(w, u, b, samples), litert_model(w, u, b, samples)
        x = samples[0]
        real = peers.onnxruntime_network(fp32)(x.transpose(1, 0, 2)).ravel()
        for threads in args.threads:
            networks = {peers.name("ONNX Runtime", "onnxruntime"): peers.onnxruntime_network(int8, threads),
                        peers.name("OpenVINO", "openvino"): peers.openvino_network(vino, threads),
                        peers.name("LiteRT", "ai-edge-litert"): peers.litert_network(lite, threads)}
            for name, run in networks.items():
                y = run(x.transpose(1, 0, 2) if name.startswith("ONNX") else x).ravel()
                print(f"{name}: h differs from fp32 by {np.abs(y - real).mean():.5f} on average, {np.abs(y - real).max():.5f} at most")
            command = [args.program, "--time", args.steps, "--threads", threads, "--seconds", args.seconds]
            ours, theirs = peers.in_turns(command, networks, args.rounds, args.seconds)
            rows += peers.rows(f"lstm 128, {args.steps} steps", "static, per channel", ours["lstm"], theirs, threads)
    if args.out:
        peers.write_rows(args.out, rows)


if __name__ == "__main__":
    main()
