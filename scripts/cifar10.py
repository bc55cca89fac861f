# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 from an archive of images, {train,test}/<class>/*, as the safetensors file that the ablation reads:

    train, test                 u8 [n][32][32][3]
    train_labels, test_labels   i32 [n]: the classes in the order of their names

The order is that of the archive, class by class: who trains shuffles. Needs numpy, Pillow, and zstd for .tar.zst.
"""

import argparse
import io
import pathlib

import numpy as np
from PIL import Image

from mlperf_tiny_inputs import members, write


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", type=pathlib.Path, required=True, help="tar of {train,test}/<class>/*.jpg")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the safetensors file")
    args = parser.parse_args()
    found = {"train": [], "test": []}
    for name, data in members(args.cifar):
        part, kind, _ = name.split("/")[-3:]
        found[part].append((kind, np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))))
    tensors = {}
    classes = sorted({kind for images in found.values() for kind, _ in images})
    for part, images in found.items():
        tensors[part] = np.array([pixels for _, pixels in images])
        tensors[part + "_labels"] = np.array([classes.index(kind) for kind, _ in images], np.int32)
        print(f"{part}: {len(images)} images")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write(args.out, tensors)


if __name__ == "__main__":
    main()
