# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0 in ONNX Runtime, fp32 and INT8 (static, QDQ, per channel), on the files of efficientnet_lite0.py.

Prints top-1, agreement with fp32 and the median latency of one image, one thread, and writes them as rows to --out, as
models_efficientnet_lite0 writes its own.

Needs numpy, onnx and onnxruntime.
"""

import argparse
import json
import pathlib
import statistics
import tempfile
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization

# kernel, stride, times the channels, channels in and out, repeats
STAGES = ((3, 1, 1, 32, 16, 1), (3, 2, 6, 16, 24, 2), (5, 2, 6, 24, 40, 2), (3, 2, 6, 40, 80, 3), (5, 1, 6, 80, 112, 3),
          (5, 2, 6, 112, 192, 4), (3, 1, 6, 192, 320, 1))


def load_safetensors(path):
    types = {"F32": "<f4", "I32": "<i4", "U8": "u1"}
    data = pathlib.Path(path).read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    return {name: np.frombuffer(data[8 + size + t["data_offsets"][0]:8 + size + t["data_offsets"][1]],
                                types[t["dtype"]]).reshape(t["shape"])
            for name, t in header.items() if name != "__metadata__"}


def build_model(weights):
    nodes, values = [], []

    def constant(name, value):
        values.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
        return name

    def add(op, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def conv(name, x, kernel=1, stride=1, relu6=True):
        w = weights[name + ".weight"]
        depthwise = w.ndim == 3
        w = w.transpose(2, 0, 1)[:, None] if depthwise else w.transpose(0, 3, 1, 2)
        y = add("Conv", [x, constant(name + ".weight", w), constant(name + ".bias", weights[name + ".bias"])], name,
                kernel_shape=[kernel] * 2, strides=[stride] * 2, group=len(w) if depthwise else 1, auto_pad="SAME_UPPER")
        return add("Clip", [y, "zero", "six"], name + ".relu6") if relu6 else y

    constant("zero", 0)
    constant("six", 6)
    x, i = conv("stem", "image", 3, 2), 0
    for kernel, first_stride, times, first_in, out, repeats in STAGES:
        for r in range(repeats):
            stride, into, name = (first_stride, first_in, f"block{i}") if r == 0 else (1, out, f"block{i}")
            y = conv(name + ".expand", x) if times != 1 else x
            y = conv(name + ".depthwise", y, kernel, stride)
            y = conv(name + ".project", y, relu6=False)
            x = add("Add", [x, y], name + ".residual") if stride == 1 and into == out else y
            i += 1
    x = add("GlobalAveragePool", [conv("head", x)], "average")
    x = add("Flatten", [x], "flat")
    add("Gemm", [x, constant("classifier.weight", weights["classifier.weight"].reshape(1000, 1280)),
                 constant("classifier.bias", weights["classifier.bias"])], "logits", transB=1)
    graph = helper.make_graph(nodes, "efficientnet-lite0",
                              [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 224, 224])],
                              [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1000])], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def tensor(image):
    return ((image.astype(np.float32) - 127) / 128).transpose(2, 0, 1)[None]


class Reader(quantization.CalibrationDataReader):
    def __init__(self, images):
        self.images = iter(images)

    def get_next(self):
        image = next(self.images, None)
        return None if image is None else {"image": tensor(image)}


def evaluate(path, images, labels):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    times, predicted = [], []
    for image in images:
        x = tensor(image)
        begin = time.perf_counter()
        (logits,) = session.run(None, {"image": x})
        times.append(1000 * (time.perf_counter() - begin))
        predicted.append(int(logits.argmax()))
    predicted = np.array(predicted)
    return predicted, 100 * float((predicted == labels).mean()), statistics.median(times)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True, help="folder with what efficientnet_lite0.py wrote")
    p.add_argument("--out", help="file of the rows")
    p.add_argument("--quick", action="store_true", help="50 images, 16 for calibration")
    a = p.parse_args()
    data = pathlib.Path(a.data)
    samples = load_safetensors(data / "images.safetensors")
    images, labels = samples["images"], samples["labels"]
    crops = load_safetensors(data / "calibration.safetensors")["images"]
    if a.quick:
        images, labels, crops = images[:50], labels[:50], crops[:16]

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        fp32, int8 = pathlib.Path(folder) / "fp32.onnx", pathlib.Path(folder) / "int8.onnx"
        onnx.save(build_model(load_safetensors(data / "weights.safetensors")), fp32)
        quantization.quantize_static(fp32, int8, Reader(crops), quant_format=quantization.QuantFormat.QDQ,
                                     per_channel=True, activation_type=quantization.QuantType.QUInt8,
                                     weight_type=quantization.QuantType.QInt8)
        reference = None
        for method, bits, path in (("ONNX Runtime", "fp32", fp32), ("ONNX Runtime, static, per channel", "w8a8", int8)):
            predicted, top1, latency = evaluate(path, images, labels)
            if reference is None:
                reference, fp32_top1 = predicted, top1
            agreement = 100 * float((predicted == reference).mean())
            print(f"{method:34} {bits:5}  top-1 {top1:6.2f} %  agreement {agreement:6.2f} %  {latency:8.2f} ms  "
                  f"{path.stat().st_size:9} bytes")
            row = {"model": "efficientnet-lite0", "method": method, "bits": bits, "metric": "top1 %", "value": top1,
                   "fp32_value": fp32_top1, "bytes": path.stat().st_size, "latency_ms": latency, "peer": None,
                   "peer_latency_ms": None}
            rows.append(row)
            if bits != "fp32":
                rows.append(row | {"metric": "agreement %", "value": agreement, "fp32_value": 100.0})
    if a.out:
        pathlib.Path(a.out).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
