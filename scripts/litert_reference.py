#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs int8 models on LiteRT's reference kernels and saves every tensor, for examples/mlperf_tiny --reference.

    python3 -m venv build/litert && build/litert/bin/pip install numpy ai-edge-litert
    build/litert/bin/python scripts/litert_reference.py --data DIR --kws DIR/kws01 --out out/litert
    build/.../mlperf_tiny --data DIR --kws DIR/kws01 --reference out/litert

For each model of --data whose input and output are int8: OUT/<model>/input.npy, [inputs, ...], and
tensor_<index>.npy for each tensor that an operator writes. Keyword spotting gets its official inputs (--kws), the
others random codes, all of them at once -128, and all 127.

    ... --operators DIR     first writes models of one operator each there: what the models of MLPerf Tiny do not have
    ... --time MODEL        instead the latency on LiteRT's fastest kernels (XNNPACK), one thread
"""
import argparse
import csv
import pathlib
import sys
import time

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType


def official_inputs(folder, shape):
    """The inputs of keyword spotting in the order of their labels."""
    with open(folder / "y_labels.csv", newline="") as labels:
        names = [row[0] for row in csv.reader(labels) if len(row) == 3]
    return np.stack([np.fromfile(folder / n, np.int8).reshape(shape) for n in names])


def random_inputs(name, count, shape):
    rng = np.random.default_rng(sum(name.encode()))
    inputs = rng.integers(-128, 128, (count, *shape), np.int8)
    inputs[0], inputs[-1] = -128, 127
    return inputs


def run_reference(path, args):
    interpreter = Interpreter(
        str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True, num_threads=1)
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    if source["dtype"] != np.int8 or result["dtype"] != np.int8:
        print(f"{path.stem}: left out: not int8")
        return
    shape = tuple(source["shape"][1:])
    inputs = (official_inputs(args.kws, shape) if path.stem == "kws_ref_model" and args.kws
              else random_inputs(path.stem, args.inputs, shape))
    written = [i for op in interpreter._get_ops_details() for i in op["outputs"]]
    tensors = {i: [] for i in written}
    for x in inputs:
        interpreter.set_tensor(source["index"], x[None])
        interpreter.invoke()
        for i in written:
            tensors[i].append(interpreter.get_tensor(i))
    folder = args.out / path.stem
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "input.npy", inputs)
    for i, values in tensors.items():
        np.save(folder / f"tensor_{i}.npy", np.concatenate([v.reshape(1, *v.shape) for v in values]))
    codes = sum(v[0].size * len(v) for v in tensors.values())
    print(f"{path.stem}: {len(inputs)} inputs, {len(written)} tensors, {codes} codes")


def measure(path):
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]
    interpreter.set_tensor(source["index"], random_inputs(path.stem, 3, tuple(source["shape"][1:]))[1:2])
    us, end = [], time.perf_counter() + 1
    while time.perf_counter() < end:
        begin = time.perf_counter()
        interpreter.invoke()
        us.append((time.perf_counter() - begin) * 1e6)
    print(f"{path.stem} litert xnnpack median {np.median(us):.1f} us, least {min(us):.1f} us, {len(us)} runs")


# --- models of one operator ----------------------------------------------------------------------


def write_operators(folder):
    import flatbuffers
    from ai_edge_litert import schema_py_generated as s

    rng = np.random.default_rng(1)
    folder.mkdir(parents=True, exist_ok=True)

    def tensor(model, name, shape, scale, zero, data=None, kind=s.TensorType.INT8, axis=0):
        buffer = s.BufferT()
        if data is not None:
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
        model.buffers.append(buffer)
        t = s.TensorT()
        t.name, t.shape, t.type, t.buffer = name, list(shape), kind, len(model.buffers) - 1
        if scale is not None:
            q = t.quantization = s.QuantizationParametersT()
            q.scale = np.atleast_1d(np.asarray(scale, np.float32)).tolist()
            q.zeroPoint = [zero] * len(q.scale)
            q.quantizedDimension = axis
        model.subgraphs[0].tensors.append(t)
        return len(model.subgraphs[0].tensors) - 1

    def write(name, code, kind, options, build):
        model = s.ModelT()
        model.version, model.buffers, model.description = 3, [s.BufferT()], "one operator"
        oc = s.OperatorCodeT()
        oc.builtinCode, oc.deprecatedBuiltinCode, oc.version = code, code, 1
        model.operatorCodes = [oc]
        g = s.SubGraphT()
        g.name, g.tensors, g.operators = "main", [], []
        model.subgraphs = [g]
        o = s.OperatorT()
        o.opcodeIndex, o.builtinOptionsType, o.builtinOptions = 0, kind, options
        o.inputs, o.outputs = build(lambda *a, **k: tensor(model, *a, **k))
        g.operators, g.inputs, g.outputs = [o], [o.inputs[0]], list(o.outputs)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        (folder / f"{name}.tflite").write_bytes(bytes(builder.Output()))

    def set_all(options, **values):
        for k, v in values.items():
            assert hasattr(options, k), k
            setattr(options, k, v)
        return options

    op, kinds, act = s.BuiltinOperator, s.BuiltinOptions, s.ActivationFunctionType
    int32 = s.TensorType.INT32
    image = (1, 9, 7, 5)
    activations = {"none": act.NONE, "relu": act.RELU, "relu_n1_to_1": act.RELU_N1_TO_1, "relu6": act.RELU6}

    def conv(name, pad, fused, stride, dilation, kernel, out, groups=1):
        weights = rng.integers(-127, 128, (out, *kernel, 6 // groups), np.int8)
        scales = rng.uniform(0.002, 0.02, out)
        size = lambda n, k, st: ((n + st - 1) // st if pad == s.Padding.SAME
                                 else (n - (dilation * (k - 1) + 1)) // st + 1)
        y = (1, size(11, kernel[0], stride), size(8, kernel[1], stride), out)
        write(name, op.CONV_2D, kinds.Conv2DOptions,
              set_all(s.Conv2DOptionsT(), padding=pad, strideH=stride, strideW=stride, dilationHFactor=dilation,
                      dilationWFactor=dilation, fusedActivationFunction=fused),
              lambda t: ([t("x", (1, 11, 8, 6), 0.05, -13),
                          t("w", weights.shape, scales, 0, weights),
                          t("b", (out,), scales * 0.05, 0, rng.integers(-4000, 4000, out, np.int32), int32)],
                         [t("y", y, 0.06, 20)]))

    def depthwise(name, multiplier, stride, fused):
        out = 5 * multiplier
        weights = rng.integers(-127, 128, (1, 3, 3, out), np.int8)
        scales = rng.uniform(0.002, 0.02, out)
        y = (1, (9 + stride - 1) // stride, (7 + stride - 1) // stride, out)
        write(name, op.DEPTHWISE_CONV_2D, kinds.DepthwiseConv2DOptions,
              set_all(s.DepthwiseConv2DOptionsT(), padding=s.Padding.SAME, strideH=stride, strideW=stride,
                      depthMultiplier=multiplier, fusedActivationFunction=fused),
              lambda t: ([t("x", image, 0.05, 7), t("w", weights.shape, scales, 0, weights, axis=3),
                          t("b", (out,), scales * 0.05, 0, rng.integers(-900, 900, out, np.int32), int32)],
                         [t("y", y, 0.03, -40)]))

    for name, fused in activations.items():
        conv(f"conv_{name}", s.Padding.SAME, fused, 1, 1, (3, 3), 7)
        write(f"add_{name}", op.ADD, kinds.AddOptions, set_all(s.AddOptionsT(), fusedActivationFunction=fused),
              lambda t: ((lambda x: ([x, x], [t("y", image, 0.083, -17)]))(t("x", image, 0.0517, 11))))
    conv("conv_stride_2", s.Padding.SAME, act.NONE, 2, 1, (4, 3), 9)
    conv("conv_valid_dilated", s.Padding.VALID, act.RELU6, 1, 2, (3, 2), 4)
    conv("conv_groups", s.Padding.SAME, act.NONE, 1, 1, (3, 3), 8, groups=2)
    depthwise("depthwise", 1, 1, act.RELU6)
    depthwise("depthwise_stride_2", 1, 2, act.NONE)
    depthwise("depthwise_multiplier", 3, 1, act.NONE)
    for name, scales in {"fully_connected": 0.011, "fully_connected_per_channel": rng.uniform(0.002, 0.02, 6)}.items():
        weights = rng.integers(-127, 128, (6, 37), np.int8)
        write(name, op.FULLY_CONNECTED, kinds.FullyConnectedOptions,
              set_all(s.FullyConnectedOptionsT(), fusedActivationFunction=act.NONE),
              lambda t: ([t("x", (1, 37), 0.031, 5), t("w", (6, 37), scales, 0, weights),
                          t("b", (6,), np.asarray(scales) * 0.031, 0, rng.integers(-900, 900, 6, np.int32), int32)],
                         [t("y", (1, 6), 0.047, -3)]))
    for name, code in {"average_pool": op.AVERAGE_POOL_2D, "max_pool": op.MAX_POOL_2D}.items():
        for pad_name, pad, y in (("same", s.Padding.SAME, (1, 5, 4, 5)), ("valid", s.Padding.VALID, (1, 4, 2, 5))):
            write(f"{name}_{pad_name}", code, kinds.Pool2DOptions,
                  set_all(s.Pool2DOptionsT(), padding=pad, strideH=2, strideW=2, filterHeight=3, filterWidth=4,
                          fusedActivationFunction=act.RELU6),
                  lambda t: ([t("x", image, 0.09, -20)], [t("y", y, 0.09, -20)]))
    for name, scale in {"mean": 0.021, "mean_same_grid": 0.05, "mean_coarse": 0.4}.items():
        write(name, op.MEAN, kinds.ReducerOptions, set_all(s.ReducerOptionsT(), keepDims=True),
              lambda t: ([t("x", image, 0.05, 31), t("axes", (2,), None, 0, np.array([1, 2], np.int32), int32)],
                         [t("y", (1, 1, 1, 5), scale, -9)]))
    for name, (x, y) in {"quantize_finer": ((0.05, 31), (0.021, -9)), "quantize_coarser": ((0.02, -7), (0.07, 3))}.items():
        write(name, op.QUANTIZE, kinds.QuantizeOptions, s.QuantizeOptionsT(),
              lambda t: ([t("x", image, *x)], [t("y", image, *y)]))
    for name, (scale, beta) in {"softmax": (0.13, 1.0), "softmax_flat": (0.003, 1.0), "softmax_steep": (0.9, 2.0),
                                "softmax_steepest": (20.0, 1.0)}.items():
        write(name, op.SOFTMAX, kinds.SoftmaxOptions, set_all(s.SoftmaxOptionsT(), beta=beta),
              lambda t: ([t("x", (1, 40), scale, 5)], [t("y", (1, 40), 1 / 256, -128)]))
    write("pad", op.PAD, kinds.PadOptions, s.PadOptionsT(),
          lambda t: ([t("x", image, 0.05, 31),
                      t("around", (4, 2), None, 0, np.array([[0, 0], [1, 2], [3, 0], [0, 0]], np.int32), int32)],
                     [t("y", (1, 12, 10, 5), 0.05, 31)]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--kws", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/litert"))
    parser.add_argument("--inputs", type=int, default=50, help="random inputs of a model (default: 50)")
    parser.add_argument("--operators", type=pathlib.Path)
    parser.add_argument("--time", metavar="MODEL")
    args = parser.parse_args()
    if args.operators:
        write_operators(args.operators)
        args.data = args.operators
    if not args.data:
        parser.error("--data or --operators is needed")
    if args.time:
        return measure(args.data / f"{args.time}.tflite")
    for path in sorted(args.data.glob("*.tflite")):
        run_reference(path, args)


if __name__ == "__main__":
    sys.exit(main())
