#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Log-mel frames of the Free Spoken Digit Dataset (github.com/Jakobovski/free-spoken-digit-dataset), for models_rnn.

Reads {digit}_{speaker}_{index}.wav (8 kHz, mono, 16 bits) and writes a safetensors file:

    features  F32 [recordings][64][32]   frames of 256 samples every 128 (16 ms), 32 mel bands from 50 to 4000 Hz;
                                         normalized by the mean and deviation of each band over the training part;
                                         what is beyond 64 frames is cut off, what is missing is 0
    lengths   I32 [recordings]           frames that are not padding
    labels    U8  [recordings]           the digits
    test      U8  [recordings]           1 for recordings with an index of 0 to 4, the customary split
"""
import argparse
import json
import pathlib
import struct
import wave

import numpy as np

RATE, WINDOW, HOP, BANDS, FRAMES = 8000, 256, 128, 32, 64


def save(path, tensors):
    header, data = {}, b""
    for name, array in tensors.items():
        kind = {"float32": "F32", "int32": "I32", "uint8": "U8"}[str(array.dtype)]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(data), len(data) + array.nbytes]}
        data += np.ascontiguousarray(array).tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


def mel_filters():
    def mel(f):
        return 2595 * np.log10(1 + f / 700)

    edges = np.linspace(mel(50), mel(RATE / 2), BANDS + 2)
    edges = 700 * (10 ** (edges / 2595) - 1)
    bins = np.arange(WINDOW // 2 + 1) * RATE / WINDOW
    up = (bins[None] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    down = (edges[2:, None] - bins[None]) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(up, down))


def frames(path, filters):
    with wave.open(str(path)) as f:
        if (f.getframerate(), f.getnchannels(), f.getsampwidth()) != (RATE, 1, 2):
            raise SystemExit(f"{path}: not 8 kHz, mono, 16 bits")
        x = np.frombuffer(f.readframes(f.getnframes()), np.int16).astype(np.float64) / 32768
    x = np.pad(x, (0, max(0, WINDOW - len(x))))
    at = np.arange(0, len(x) - WINDOW + 1, HOP)[:FRAMES]
    power = np.abs(np.fft.rfft(x[at[:, None] + np.arange(WINDOW)] * np.hanning(WINDOW))) ** 2
    return np.log(power @ filters.T + 1e-5)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", help="the folder of the wav files")
    parser.add_argument("out", help="the safetensors file to write")
    args = parser.parse_args()
    paths = sorted(pathlib.Path(args.recordings).glob("*_*_*.wav"))
    if not paths:
        raise SystemExit(f"{args.recordings}: has no {{digit}}_{{speaker}}_{{index}}.wav")
    filters = mel_filters()
    all_frames = [frames(p, filters) for p in paths]
    test = np.array([int(p.stem.split("_")[2]) < 5 for p in paths])
    seen = np.concatenate([f for f, t in zip(all_frames, test) if not t])
    features = np.zeros((len(paths), FRAMES, BANDS), np.float32)
    for i, f in enumerate(all_frames):
        features[i, : len(f)] = (f - seen.mean(0)) / seen.std(0)
    save(args.out, {
        "features": features,
        "lengths": np.array([len(f) for f in all_frames], np.int32),
        "labels": np.array([int(p.stem.split("_")[0]) for p in paths], np.uint8),
        "test": test.astype(np.uint8),
    })
    print(f"{args.out}: {len(paths)} recordings, {test.sum()} of them for the test")


if __name__ == "__main__":
    main()
