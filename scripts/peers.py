# SPDX-License-Identifier: Apache-2.0
"""What the scripts share that compare with ONNX Runtime, OpenVINO and LiteRT: their calls, turns, rows.

A network of a peer is a function: run(x) runs it on x, as floats, and returns its first output; run() runs it again on
the last x, which is what is timed. Each library has its own default optimizations, and LiteRT its XNNPACK delegate.
"""
import collections
import json
import os
import pathlib
import statistics
import subprocess
import time
from importlib.metadata import version

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper


def onnxruntime_network(path, threads=1):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed, name = {}, session.get_inputs()[0].name

    def run(x=None):
        if x is not None:
            feed[name] = x
        return session.run(None, feed)[0]

    return run


def openvino_network(model, threads=1, precision=None, others={}):
    """model: a path, or a model of OpenVINO. precision: of what is not quantized ("f32"; OpenVINO's own choice is
    bfloat16 where the CPU has that). others: further inputs by number."""
    import openvino
    request = openvino.Core().compile_model(model, "CPU", {
        "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"} |
        ({"INFERENCE_PRECISION_HINT": precision} if precision else {})).create_infer_request()

    def run(x=None):
        request.infer(None if x is None else {0: x} | others)
        return request.get_output_tensor(0).data

    return run


def litert_network(model, threads=1):
    """model: the bytes of a .tflite file."""
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(model_content=model, num_threads=threads)
    interpreter.allocate_tensors()
    into, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def codes(x):
        scale, zero_point = into["quantization"]
        if not scale:
            return x.astype(into["dtype"])
        info = np.iinfo(into["dtype"])
        return np.clip(np.rint(x / scale) + zero_point, info.min, info.max).astype(into["dtype"])

    def run(x=None):
        if x is not None:
            interpreter.set_tensor(into["index"], codes(x))
        interpreter.invoke()
        y = interpreter.get_tensor(out["index"])
        scale, zero_point = out["quantization"]
        return (y.astype(np.float32) - zero_point) * scale if scale else y

    run.interpreter = interpreter
    return run


def image_peers(int8, tflite, image, threads):
    """The three by name on one image network: an ONNX file of quantize_images, a .tflite file, an image as floats."""
    codes = take_codes(int8)
    pixels = np.random.default_rng(3).integers(0, 256, image.shape, np.uint8)
    litert = litert_network(tflite, threads)
    delegates = [op for op in litert.interpreter._get_ops_details() if op["op_name"] == "DELEGATE"]
    into, out = (d()[0]["index"] for d in (litert.interpreter.get_input_details, litert.interpreter.get_output_details))
    if len(delegates) != 1 or into not in delegates[0]["inputs"] or out not in delegates[0]["outputs"]:
        raise SystemExit("XNNPACK does not run the whole .tflite file")
    peers = {"ONNX Runtime": (onnxruntime_network(codes, threads), pixels),
             "OpenVINO": (openvino_network(codes, threads), pixels),
             "LiteRT": (litert, image.transpose(0, 2, 3, 1))}
    for run, x in peers.values():
        run(x)
    return {peer: run for peer, (run, _) in peers.items()}


def with_version(name):
    """The name of a peer, which begins with that of a library, with its version: "LiteRT 2.3.0 INT8 dynamic"."""
    packages = {"ONNX Runtime": "onnxruntime", "OpenVINO": "openvino", "LiteRT": "ai-edge-litert"}
    library = next(l for l in packages if name.startswith(l))
    return f"{library} {version(packages[library])}{name[len(library):]}"


# ---- models -----------------------------------------------------------------------------------------------------

def quantize_images(path, images):
    """The ONNX file of an image network, quantized by ONNX Runtime: static, QDQ, u8 activations by least and greatest
    value over the images (1 x 3 x h x w), s8 weights per channel. Returns the path of the new file."""
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.rest = iter(images)

        def get_next(self):
            image = next(self.rest, None)
            return None if image is None else {entry: image}

    entry = onnx.load(path).graph.input[0].name
    prepared, result = (str(pathlib.Path(path).with_suffix(end)) for end in (".prepared.onnx", ".int8.onnx"))
    quantization.shape_inference.quant_pre_process(str(path), prepared, skip_symbolic_shape=True)
    quantization.quantize_static(prepared, result, Reader(), per_channel=True,
                                 activation_type=quantization.QuantType.QUInt8,
                                 weight_type=quantization.QuantType.QInt8,
                                 quant_format=quantization.QuantFormat.QDQ)
    return result


def take_codes(path):
    """The same file of quantize_images, but with u8 codes as its input, which notch and LiteRT take, too."""
    model = onnx.load(path)
    graph, entry = model.graph, model.graph.input[0]
    first = next(n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == entry.name)
    for node in graph.node:
        node.input[:] = [entry.name if i == first.output[0] else i for i in node.input]
    graph.node.remove(first)
    entry.type.tensor_type.elem_type = onnx.TensorProto.UINT8
    result = str(pathlib.Path(path).with_suffix(".u8.onnx"))
    onnx.save(model, result)
    return result


def to_litert(function, spec, samples, static=True):
    """The .tflite file of a TensorFlow function of one input: weights s8 per channel, activations s8 calibrated on the
    samples or, if not static, quantized while it runs."""
    import tensorflow as tf
    concrete = tf.function(function, input_signature=[spec], autograph=False).get_concrete_function()
    return convert(tf.lite.TFLiteConverter.from_concrete_functions([concrete]), samples, static)


def convert(converter, samples=(), static=True):
    """What a TFLiteConverter makes in INT8; the samples are those of its input."""
    import tensorflow as tf
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if static:
        converter.representative_dataset = lambda: ([s] for s in samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_output_type = tf.int8
        if samples[0].dtype == np.float32:
            converter.inference_input_type = tf.int8
    return converter.convert()


def litert_images(path, images):
    """The image network of an ONNX file as a .tflite file in INT8. Images are 1 x 3 x h x w."""
    import tensorflow as tf
    graph = onnx.load(path).graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    _, channels, height, width = [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]

    def padded(x, a, kernel):
        """x and TensorFlow's name of the padding; an operation of its own only where that knows no name."""
        pads, whole = a.get("pads", [0] * 4), [max((-(-n // s) - 1) * s + k - n, 0)
                                               for n, s, k in zip(x.shape[1:3], a["strides"], kernel)]
        if a.get("auto_pad") == b"SAME_UPPER" or pads == [p // 2 for p in whole] + [p - p // 2 for p in whole]:
            return x, "SAME"
        return tf.pad(x, [[0, 0], pads[0::2], pads[1::2], [0, 0]]), "VALID"

    def conv(a, x, w, b):
        x, padding = padded(x, a, w.shape[2:])
        if a.get("group", 1) > 1:  # depthwise
            y = tf.nn.depthwise_conv2d(x, w.transpose(2, 3, 0, 1), [1, *a["strides"], 1], padding)
        else:
            y = tf.nn.conv2d(x, w.transpose(2, 3, 1, 0), a["strides"], padding)
        return tf.nn.bias_add(y, b)

    def max_pool(a, x):  # behind a ReLU, so that padding with 0 changes nothing
        x, padding = padded(x, a, a["kernel_shape"])
        return tf.nn.max_pool2d(x, a["kernel_shape"], a["strides"], padding)

    operators = {"Conv": conv, "MaxPool": max_pool, "Relu": lambda a, x: tf.nn.relu(x),
                 "Clip": lambda a, x, low, high: tf.nn.relu6(x), "Add": lambda a, x, y: x + y,
                 "GlobalAveragePool": lambda a, x: tf.reduce_mean(x, [1, 2]), "Flatten": lambda a, x: x,
                 "Gemm": lambda a, x, w, b: tf.matmul(x, w, transpose_b=bool(a.get("transB"))) + b}

    def network(x):
        values = {graph.input[0].name: x} | constants
        for node in graph.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            values[node.output[0]] = operators[node.op_type](attributes, *(values[i] for i in node.input))
        return values[graph.output[0].name]

    return to_litert(network, tf.TensorSpec([1, height, width, channels]), [i.transpose(0, 2, 3, 1) for i in images])


# ---- turns ------------------------------------------------------------------------------------------------------

def usable(threads):
    """Those of the numbers of threads for which there are CPUs."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if max(threads) > cpus:
        print(f"note: {cpus} CPUs: not timed with more threads")
    return [n for n in threads if n <= cpus]


def median_ms(run, seconds):
    for _ in range(3):
        run()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        begin = time.perf_counter()
        run()
        times.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(times)


def program_ms(command):
    """What a program's --time prints: names and milliseconds."""
    out = subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout
    return {name: float(ms) for name, ms in (line.rsplit("\t", 1) for line in out.splitlines())}


def in_turns(command, peers, rounds, seconds):
    """Medians over the rounds, each of which runs the program and then each peer: ours by name, theirs by name."""
    times = collections.defaultdict(list)
    for _ in range(rounds):
        for name, ms in program_ms(command).items():
            times["ours", name].append(ms)
        for name, run in peers.items():
            times["theirs", name].append(median_ms(run, seconds))
    return tuple({name: statistics.median(t) for (whose, name), t in times.items() if whose == w}
                 for w in ("ours", "theirs"))


def rows(model, method, ours, theirs, threads):
    """A row for each peer, which join_results.py takes; printed too."""
    theirs = {with_version(name): ms for name, ms in theirs.items()}
    method = f"{method}, {threads} thread{'s' * (threads > 1)}"
    print(f"{model}, {method}: notch {ours:.4f} ms" +
          "".join(f"; {peer} {ms:.4f} ms, {ms / ours:.2f} times ours" for peer, ms in theirs.items()), flush=True)
    return [{"model": model, "method": method, "bits": "w8a8", "metric": "latency", "value": ours, "fp32_value": None,
             "bytes": None, "latency_ms": ours, "peer": peer, "peer_latency_ms": ms} for peer, ms in theirs.items()]


def write_rows(path, rows):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(rows, file, indent=1)
        file.write("\n")
