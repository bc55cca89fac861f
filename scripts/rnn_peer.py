#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times the LSTM of Silero VAD (one step, 128 inputs, 128 hidden, batch 1, one thread) in ONNX Runtime, in fp32 and
dynamically quantized to 8 bits (DynamicQuantizeLSTM), in turns with models_rnn --quick --vad. Needs numpy, onnx and
onnxruntime. The median of 2000 calls each, the best of all rounds. ONNX Runtime's times include its call from Python;
models_rnn's include the linear layer that follows the LSTM.
"""
import argparse
import json
import pathlib
import subprocess
import tempfile
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

SIZE = 128


def write_model(path):
    random = np.random.default_rng(1)
    tensors = [numpy_helper.from_array(random.uniform(-0.1, 0.1, s).astype(np.float32), n)
               for n, s in (("w", (1, 4 * SIZE, SIZE)), ("u", (1, 4 * SIZE, SIZE)), ("b", (1, 8 * SIZE)))]
    values = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1, SIZE]) for n in ("x", "h", "c", "hn", "cn")}
    node = helper.make_node("LSTM", ["x", "w", "u", "b", "", "h", "c"], ["", "hn", "cn"], hidden_size=SIZE)
    graph = helper.make_graph([node], "lstm", [values[n] for n in "xhc"], [values["hn"], values["cn"]], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)


def median_ms(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {n: np.full((1, 1, SIZE), 0.1, np.float32) for n in "xhc"}
    times = []
    for _ in range(2200):
        begin = time.perf_counter()
        session.run(None, feed)
        times.append(1e3 * (time.perf_counter() - begin))
    return float(np.median(times[200:]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="models_rnn")
    parser.add_argument("vad", help="the file of scripts/silero_frames.py")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    best = {}
    with tempfile.TemporaryDirectory() as folder:
        fp32, int8, rows = (pathlib.Path(folder) / n for n in ("fp32.onnx", "int8.onnx", "rows.json"))
        write_model(fp32)
        quantize_dynamic(fp32, int8, weight_type=QuantType.QInt8, op_types_to_quantize=["LSTM"], per_channel=True)
        kinds = [n.op_type for n in onnx.load(int8).graph.node]
        if "DynamicQuantizeLSTM" not in kinds:
            raise SystemExit(f"ONNX Runtime did not quantize the LSTM: {kinds}")
        for _ in range(args.rounds):
            subprocess.run([args.program, "--quick", "--vad", args.vad, "--out", rows], check=True, capture_output=True)
            found = {f"notch {r['bits']}": r["latency_ms"] for r in json.loads(rows.read_text())
                     if r["model"] == "silero lstm" and r["method"] in ("", "static, per channel")}
            found["ONNX Runtime fp32"] = median_ms(fp32)
            found["ONNX Runtime dynamic int8"] = median_ms(int8)
            for name, ms in found.items():
                best[name] = min(ms, best.get(name, ms))
    for name, ms in best.items():
        print(f"{name:<28} {1e3 * ms:7.2f} us")


if __name__ == "__main__":
    main()
