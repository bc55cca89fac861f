# SPDX-License-Identifier: Apache-2.0
"""Inputs for the float models of MLPerf Tiny, as the safetensors files that models_tiny reads: <model>.safetensors with

    inputs, calibration     u8 codes [n][...] with input_scale, input_zero_point; or f32
    labels                  i32 [n], where there are any
    reference               f32: what LiteRT's float kernels give for the first inputs

Keyword spotting: the 1,000 official inputs; the first 100 are the calibration, as no others are published.
Image classification: the CIFAR-10 test images; 50 training images of each class are the calibration.
Visual wake words: crops of photographs, such as those that scikit-image ships; every other photograph is calibration.
Anomaly detection: log-mel energies of recordings, with the window of its reference implementation; the recordings of half
of the speakers are the calibration. Speech is not the sound of machines: these inputs only show what quantization changes.

Weights that a float model stores as int8 (keyword spotting) are first written out in float: LiteRT would quantize the
activations of these layers too. Needs numpy, Pillow, ai-edge-litert, flatbuffers, and zstd for .tar.zst.
"""

import argparse
import io
import json
import pathlib
import subprocess
import tarfile
import wave

import numpy as np

REFERENCES = 100


def write(path, tensors):
    header, at = {}, 0
    names = {"f4": "F32", "u1": "U8", "i4": "I32"}
    order = sorted(tensors, key=lambda k: -tensors[k].dtype.itemsize)  # aligned
    for name in order:
        t = tensors[name] = np.ascontiguousarray(tensors[name])
        header[name] = {"dtype": names[t.dtype.str[1:]], "shape": list(t.shape), "data_offsets": [at, at + t.nbytes]}
        at += t.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            f.write(tensors[name].tobytes())


def members(path):
    """(name, bytes) of the files of an archive."""
    unpack = subprocess.Popen(["zstd", "-dc", path], stdout=subprocess.PIPE) if path.suffix == ".zst" else None
    with tarfile.open(fileobj=unpack.stdout if unpack else open(path, "rb"), mode="r|") as tar:
        for member in tar:
            if member.isfile():
                yield member.name, tar.extractfile(member).read()


def in_float(path):
    """The model with its int8 weights written out in float."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as s

    model = s.ModelT.InitFromObj(s.Model.GetRootAs(path.read_bytes(), 0))
    for t in model.subgraphs[0].tensors:
        data = model.buffers[t.buffer].data
        if t.type != s.TensorType.INT8 or data is None:
            continue
        scale = np.asarray(t.quantization.scale, np.float32)
        codes = np.frombuffer(np.asarray(data, np.uint8).tobytes(), np.int8).reshape(t.shape).astype(np.float32)
        along = [1] * len(t.shape)
        along[t.quantization.quantizedDimension] = -1
        values = codes * scale.reshape(along if len(scale) > 1 else [1] * len(t.shape))
        buffer = s.BufferT()
        buffer.data = np.frombuffer(values.astype("<f4").tobytes(), np.uint8)
        model.buffers.append(buffer)
        t.buffer, t.type, t.quantization = len(model.buffers) - 1, s.TensorType.FLOAT32, None
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def reference(path, inputs):
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(model_content=in_float(path), num_threads=1,
                              experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    outputs = []
    for x in inputs:
        interpreter.set_tensor(source["index"], x[None].astype(np.float32))
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(result["index"])[0].copy())
    return np.array(outputs, np.float32)


def finish(args, model, inputs, calibration, scale=None, zero=0, labels=None):
    path = args.data / f"{model}.tflite"
    if not path.exists():
        print(f"{model}: left out: no {path}")
        return
    tensors = {"inputs": inputs, "calibration": calibration}
    first = inputs[:REFERENCES].astype(np.float32)
    if scale is not None:
        tensors["input_scale"] = np.array([scale], np.float32)
        tensors["input_zero_point"] = np.array([zero], np.int32)
        first = (first - zero) * np.float32(scale)
    if labels is not None:
        tensors["labels"] = np.asarray(labels, np.int32)
    tensors["reference"] = reference(path, first)
    write(args.out / f"{model}.safetensors", tensors)
    print(f"{model}: {len(inputs)} inputs, {len(calibration)} for calibration")


def keyword_spotting(args):
    lines = [line.split(",") for line in (args.kws / "y_labels.csv").read_text().split()]
    codes = np.array([np.frombuffer((args.kws / line[0]).read_bytes(), np.int8) for line in lines])
    codes = (codes.astype(np.int32) + 128).astype(np.uint8).reshape(-1, 49, 10, 1)
    # The parameters of the input of kws_ref_model.tflite, the int8 model for which these codes were made.
    finish(args, "kws_ref_model_float32", codes, codes[:100], 0.5847029089927673, 83 + 128,
           [int(line[2]) for line in lines])


def image_classification(args):
    from PIL import Image

    classes = "airplane automobile bird cat deer dog frog horse ship truck".split()
    test, labels, train, seen = [], [], [], dict.fromkeys(classes, 0)
    for name, data in members(args.cifar):
        part, kind, _ = name.split("/")[-3:]
        if part == "train" and seen[kind] >= 50:
            continue
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        if part == "test":
            test.append(pixels)
            labels.append(classes.index(kind))
        else:
            train.append(pixels)
            seen[kind] += 1
    order = np.random.default_rng(1).permutation(len(test))  # the archive goes class by class
    test, labels = np.array(test)[order], np.array(labels)[order]
    for model in ("pretrainedResnet", "pretrainedResnet_large_float"):
        finish(args, model, test, np.array(train), 1.0, 0, labels)


def visual_wake_words(args):
    from PIL import Image

    sets = [[], []]
    rng = np.random.default_rng(1)
    paths = sorted(p for p in args.photos.iterdir() if p.suffix in (".png", ".jpg", ".jpeg"))
    for i, path in enumerate(paths):
        image = Image.open(path).convert("RGB")
        for _ in range(40):
            size = int(min(image.size) * rng.uniform(0.3, 1.0))
            x, y = (int(rng.integers(0, e - size + 1)) for e in image.size)
            crop = image.crop((x, y, x + size, y + size)).resize((96, 96), Image.BILINEAR)
            sets[i % 2].append(np.asarray(crop))
    test, calibration = (np.array(s) for s in sets)
    finish(args, "vww_96_float", test, calibration[rng.permutation(len(calibration))[:200]], 1 / 255, 0)


def mel_filters(rate, size, count):
    """Triangles of equal area on the mel scale of Slaney, as librosa's default."""
    def mel(f):
        return np.where(f < 1000, f * 3 / 200, 15 + np.log(np.maximum(f, 1e-9) / 1000) / (np.log(6.4) / 27))

    def hertz(m):
        return np.where(m < 15, m * 200 / 3, 1000 * np.exp((m - 15) * (np.log(6.4) / 27)))

    edges = hertz(np.linspace(mel(np.array(0.0)), mel(np.array(rate / 2)), count + 2))
    f = np.arange(size // 2 + 1) * rate / size
    rising = (f - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - f) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]


def anomaly_detection(args):
    rate, size, hop, frames = 16000, 1024, 512, 5
    filters = mel_filters(rate, size, 128)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    rng = np.random.default_rng(1)
    speakers = {}
    for name, data in members(args.sounds):
        if not name.endswith(".wav"):
            continue
        with wave.open(io.BytesIO(data)) as w:
            samples = np.frombuffer(w.readframes(w.getnframes()), "<i2") / 32768
            step = w.getframerate() / rate
        at = np.arange(0, len(samples) - 1, step)
        speakers.setdefault(name.split("_")[1], []).append(np.interp(at, np.arange(len(samples)), samples))
    sets = [[], []]
    for i, speaker in enumerate(sorted(speakers)):
        sound = np.concatenate(speakers[speaker][:200])
        sound = sound + 1e-3 * rng.standard_normal(len(sound))  # of a microphone: nothing is ever silent
        columns = np.lib.stride_tricks.sliding_window_view(sound, size)[::hop]
        power = np.abs(np.fft.rfft(columns * window)) ** 2 @ filters.T
        log = 10 * np.log10(power + np.finfo(np.float64).eps)
        vectors = np.lib.stride_tricks.sliding_window_view(log, frames, axis=0)  # [i][mel][frame]
        sets[i % 2].append(vectors.transpose(0, 2, 1).reshape(len(vectors), -1)[::3])
    test, calibration = (np.concatenate(s).astype(np.float32) for s in sets)
    finish(args, "ad01_fp32", test[rng.permutation(len(test))[:2000]],
           calibration[rng.permutation(len(calibration))[:500]])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="the .tflite files")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--kws", type=pathlib.Path, help="the folder of kws01.tar.zst")
    parser.add_argument("--cifar", type=pathlib.Path, help="tar of {train,test}/<class>/*.jpg")
    parser.add_argument("--photos", type=pathlib.Path, help="folder of photographs")
    parser.add_argument("--sounds", type=pathlib.Path, help="tar of <digit>_<speaker>_<index>.wav")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for given, make in ((args.kws, keyword_spotting), (args.photos, visual_wake_words),
                        (args.sounds, anomaly_detection), (args.cifar, image_classification)):
        if given:
            make(args)
        else:
            print(f"{make.__name__.replace('_', ' ')}: left out: no inputs were given")


if __name__ == "__main__":
    main()
