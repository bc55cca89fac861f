# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0 on other libraries, on the files of efficientnet_lite0.py: ONNX Runtime in fp32 and INT8, OpenVINO
and LiteRT in INT8, quantized as by cnn_peers.py from the same weights and the same calibration crops.

Prints top-1, agreement with fp32, and the latency of one image in turns with models_efficientnet_lite0, and writes them
as rows of scripts/models.sh to --out. Needs what peers.py needs.
"""

import argparse
import json
import pathlib
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import peers

MODEL = "efficientnet-lite0"
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


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True, help="folder with what efficientnet_lite0.py wrote")
    p.add_argument("--program", required=True, help="models_efficientnet_lite0")
    p.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=1, help="of each turn")
    p.add_argument("--out", help="file of the rows")
    p.add_argument("--quick", action="store_true", help="50 images, 16 for calibration")
    a = p.parse_args()
    data = pathlib.Path(a.data)
    samples = load_safetensors(data / "images.safetensors")
    images, labels = samples["images"], samples["labels"]
    crops = load_safetensors(data / "calibration.safetensors")["images"]
    if a.quick:
        images, labels, crops = images[:50], labels[:50], crops[:16]
    crops = [tensor(image) for image in crops]

    rows, times, reference = [], {}, None
    with tempfile.TemporaryDirectory() as folder:
        fp32 = f"{folder}/efficientnet.onnx"
        onnx.save(build_model(load_safetensors(data / "weights.safetensors")), fp32)
        int8, tflite = peers.quantize_images(fp32, crops), peers.litert_images(fp32, crops)
        for threads in peers.usable(a.threads):
            command = [a.program, "--time", "--threads", threads, "--seconds", a.seconds]
            for file in ("weights", "images", "calibration"):
                command += ["--" + file, data / f"{file}.safetensors"]
            ours, theirs = peers.in_turns(command, peers.image_peers(int8, tflite, crops[0], threads), a.rounds,
                                          a.seconds)
            rows += peers.rows(MODEL, "static, per channel", ours[MODEL], theirs, threads)
            times = times or theirs
        size = pathlib.Path(int8).stat().st_size
        networks = [("ONNX Runtime fp32", peers.onnxruntime_network(fp32), pathlib.Path(fp32).stat().st_size)]
        networks += zip(times, (peers.onnxruntime_network(int8), peers.openvino_network(int8),
                                peers.litert_network(tflite)), (size, size, len(tflite)))
        for method, run, size in networks:
            litert = method.startswith("LiteRT")
            predicted = np.array([run(tensor(i).transpose(0, 2, 3, 1) if litert else tensor(i)).argmax()
                                  for i in images])
            top1 = 100 * float((predicted == labels).mean())
            if reference is None:
                reference, fp32_top1 = predicted, top1
            agreement = 100 * float((predicted == reference).mean())
            latency = times.get(method) or peers.median_ms(run, a.seconds)
            print(f"{method:22}  top-1 {top1:6.2f} %  agreement {agreement:6.2f} %  {latency:8.2f} ms  {size:9} bytes")
            row = {"model": MODEL, "method": peers.with_version(method), "bits": "w8a8" if method in times else "fp32",
                   "metric": "top1 %", "value": top1, "fp32_value": fp32_top1, "bytes": size, "latency_ms": latency,
                   "peer": None, "peer_latency_ms": None}
            rows += [row, row | {"metric": "agreement %", "value": agreement, "fp32_value": 100.0}]
    if a.out:
        peers.write_rows(a.out, rows)


if __name__ == "__main__":
    main()
