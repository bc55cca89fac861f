#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What models_rnn --vad reads: the weights of Silero VAD (PyPI silero-vad, 16 kHz) and frames of speech to run it on.

The speech is made of spoken digits (github.com/Jakobovski/free-spoken-digit-dataset, the test part, resampled to
16 kHz): each stream has 40 recordings with pauses of 0.1 to 1.5 s, at a level of its own, and white or pink noise of 5
to 30 dB below it. The safetensors file has, besides the tensors of the model,

    magnitudes     F32 [streams][frames][4][129]   what the model's first product gives for each chunk of 512 samples
    probabilities  F32 [streams][frames]           of speech, as the model in fp32 gives them (here, in numpy)

Needs numpy and onnx. With onnxruntime, and --compare, the probabilities are compared with those of the model there.
"""
import argparse
import pathlib
import wave

import numpy as np
import onnx
from onnx import numpy_helper

from fsdd_features import save

CHUNK, CONTEXT = 512, 64


def load(path):
    names = {"stft.forward_basis_buffer": "stft_conv.weight", "decoder.rnn": "lstm_cell",
             "decoder.decoder.2": "final_conv", **{f"encoder.{i}.reparam_conv": f"conv{i + 1}" for i in range(4)}}
    tensors = {}
    for t in onnx.load(path).graph.initializer:
        for theirs, ours in names.items():
            if t.name.startswith(f"model.{theirs}"):
                tensors[t.name.replace(f"model.{theirs}", ours)] = numpy_helper.to_array(t).astype(np.float32)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        if f"lstm_cell.{name}" not in tensors:
            raise SystemExit(f"{path}: is not silero_vad_16k_op15.onnx: it has no lstm_cell.{name}")
    return tensors


def read(path):
    with wave.open(str(path)) as f:
        x = np.frombuffer(f.readframes(f.getnframes()), np.int16).astype(np.float64) / 32768
    spectrum = np.fft.rfft(x)  # 8 kHz to 16 kHz: an empty upper half of the spectrum
    return np.fft.irfft(np.concatenate([spectrum, np.zeros(len(x) + 1 - len(spectrum))]), 2 * len(x)) * 2


def stream(paths, random):
    parts = []
    for path in random.choice(paths, 40, replace=False):
        parts += [np.zeros(int(16000 * random.uniform(0.1, 1.5))), read(path)]
    x = np.concatenate(parts)
    x = x[: len(x) // CHUNK * CHUNK] * 10 ** (random.uniform(-20, 0) / 20)
    noise = random.standard_normal(len(x))
    if random.integers(2):  # pink: the power falls as 1 / f
        spectrum = np.fft.rfft(noise)
        noise = np.fft.irfft(spectrum / np.sqrt(np.arange(1, len(spectrum) + 1)), len(x))
    level = np.sqrt(np.mean(x[np.abs(x) > 0] ** 2)) * 10 ** (-random.uniform(5, 30) / 20)
    return (x + noise / noise.std() * level).astype(np.float32)


def chunks(x):
    x = np.concatenate([np.zeros(CONTEXT, np.float32), x])
    return np.stack([x[at - CONTEXT : at + CHUNK] for at in range(CONTEXT, len(x), CHUNK)])


def magnitudes(w, c):
    c = np.concatenate([c, c[:, -2:-66:-1]], axis=1)  # reflected at the end
    frames = np.stack([c[:, at : at + 256] for at in range(0, c.shape[1] - 255, 128)], axis=1)
    z = frames @ w["stft_conv.weight"][:, 0].T
    return np.sqrt(z[..., :129] ** 2 + z[..., 129:] ** 2)


def conv(w, name, x, stride):
    k = w[f"{name}.weight"]
    x = np.pad(x, ((0, 0), (1, 1), (0, 0)))
    at = range(0, x.shape[1] - 2, stride)
    y = np.stack([np.einsum("nkc,ock->no", x[:, i : i + 3], k) for i in at], axis=1) + w[f"{name}.bias"]
    return np.maximum(y, 0)


def probabilities(w, m):
    x = conv(w, "conv1", m, 1)
    x = conv(w, "conv4", conv(w, "conv3", conv(w, "conv2", x, 2), 2), 1)[:, 0]
    h, c, out = np.zeros(128, np.float32), np.zeros(128, np.float32), []
    wx = x @ w["lstm_cell.weight_ih"].T + w["lstm_cell.bias_ih"] + w["lstm_cell.bias_hh"]
    for z in wx:
        i, f, g, o = np.split(z + w["lstm_cell.weight_hh"] @ h, 4)
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
        out.append(1 / (1 + np.exp(-(np.maximum(h, 0) @ w["final_conv.weight"][0, :, 0] + w["final_conv.bias"][0]))))
    return np.array(out, np.float32)


def published(path, c):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    state, out = np.zeros((2, 1, 128), np.float32), []
    for chunk in c:
        p, state = session.run(None, {"input": chunk[None], "state": state, "sr": np.array(16000, np.int64)})
        out.append(p[0, 0])
    return np.array(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="silero_vad/data/silero_vad_16k_op15.onnx of the package")
    parser.add_argument("recordings", help="the folder of the wav files")
    parser.add_argument("out", help="the safetensors file to write")
    parser.add_argument("--compare", action="store_true", help="with ONNX Runtime")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1, help="of the choice of recordings, pauses, levels and noise")
    args = parser.parse_args()
    w = load(args.model)
    paths = [p for p in sorted(pathlib.Path(args.recordings).glob("*_*_*.wav")) if int(p.stem.split("_")[2]) < 5]
    if not paths:
        raise SystemExit(f"{args.recordings}: has no {{digit}}_{{speaker}}_{{index}}.wav")
    random = np.random.default_rng(args.seed)
    signals = [chunks(stream(paths, random)) for _ in range(args.streams)]
    shortest = min(len(c) for c in signals)
    signals = [c[:shortest] for c in signals]
    m = np.stack([magnitudes(w, c) for c in signals]).astype(np.float32)
    p = np.stack([probabilities(w, x) for x in m])
    print(f"{len(signals)} streams of {shortest} frames, speech in {100 * (p > 0.5).mean():.1f} % of them")
    if args.compare:
        theirs = np.stack([published(args.model, c) for c in signals])
        print(f"probabilities differ from the published model by at most {np.abs(p - theirs).max():.2g}")
    save(args.out, {**w, "magnitudes": m, "probabilities": p})


if __name__ == "__main__":
    main()
