# SPDX-License-Identifier: Apache-2.0
"""Post-training methods as their papers and reference codes write them, in NumPy."""
import numpy as np

from sample import sample, show

print("# numpy", np.__version__)
out, n, rows = 6, 24, 96
W = sample(out * n, 7).reshape(out, n).astype(np.float64) / 8
# Inputs with much in common: each is a sum of two of 26 values.
base = sample(rows * (n + 2), 8).reshape(rows, n + 2)
X = (base[:, :n] + base[:, n:n + 1]).astype(np.float64)
X[:, 5] = 0
scale = np.float64(np.float32(np.abs(W).max() / 7))


def quantize(w):
    return np.clip(np.rint(np.float32(w) / np.float32(scale)), -7, 7)


def gptq(W, H, damping, blocksize, actorder, quantize, scale):
    """The order of steps of the authors' code (fasterquant)."""
    W, H = W.copy(), H.copy()
    columns = W.shape[1]
    dead = np.diag(H) == 0
    H[dead, dead] = 1
    W[:, dead] = 0
    if actorder:
        perm = np.argsort(-np.diag(H), kind="stable")
        W, H = W[:, perm], H[perm][:, perm]
    H[np.arange(columns), np.arange(columns)] += damping * np.mean(np.diag(H))
    Hinv = np.linalg.cholesky(np.linalg.inv(H)).T
    Q = np.zeros_like(W)
    for i1 in range(0, columns, blocksize):
        i2 = min(i1 + blocksize, columns)
        Err = np.zeros((W.shape[0], i2 - i1))
        for i in range(i1, i2):
            Q[:, i] = quantize(W[:, i])
            Err[:, i - i1] = (W[:, i] - Q[:, i] * scale) / Hinv[i, i]
            W[:, i:i2] -= np.outer(Err[:, i - i1], Hinv[i, i:i2])
        W[:, i2:] -= Err @ Hinv[i1:i2, i2:]
    return Q[:, np.argsort(perm)] if actorder else Q


H = X.T @ X
show("scale", scale)
show("nearest", quantize(W))
for actorder in (False, True):
    Q = gptq(W, H, 0.01, 8, actorder, quantize, scale)
    show("gptq" + (".actorder" if actorder else ""), Q)
    show("gptq" + (".actorder" if actorder else "") + ".error", np.sum((X @ (W - Q * scale).T) ** 2))
show("nearest.error", np.sum((X @ (W - quantize(W) * scale).T) ** 2))

# Cross-layer equalization, eq. 10 and 11 with ranges of 2 max|W|.
W1, b1, W2 = W, sample(out, 9).astype(np.float64), sample(4 * out, 10).reshape(4, out).astype(np.float64)
r1, r2 = 2 * np.abs(W1).max(1), 2 * np.abs(W2).max(0)
s = np.sqrt(r1 * r2) / r2
show("cle.s", s)
show("cle.w1", W1 / s[:, None])
show("cle.b1", b1 / s)
show("cle.w2", W2 * s)

# SmoothQuant, eq. 4; channel 5 of X is 0.
x, w = np.abs(X).max(0), np.abs(W).max(0)
for alpha in (0.5, 0.75):
    show(f"smooth.{alpha}", np.where(x > 0, x**alpha / w ** (1 - alpha), 1))

# Half-quadratic quantization: optimize_weights_proximal of the authors' code, one group a row, 3 bits.
def shrink(x, beta, p):
    return np.sign(x) * np.maximum(np.abs(x) - np.abs(x) ** (p - 1) / beta, 0)


lo, hi = np.minimum(W.min(1, keepdims=True), 0), np.maximum(W.max(1, keepdims=True), 0)
s = ((hi - lo) / 7).astype(np.float32).astype(np.float64)
z = np.rint(-lo / s)
show("hqq.scale", s)
show("hqq.start", z)
beta, best = 10.0, np.inf
for _ in range(20):
    q = np.clip(np.rint(W / s + z), 0, 7)
    r = (q - z) * s
    error = np.abs(W - r).mean(1, keepdims=True)
    with np.errstate(divide="ignore"):
        e = shrink(W - r, beta, 0.7)
    z = (q - (W - e) / s).mean(1, keepdims=True)
    beta *= 1.01
show("hqq.zero", z)
show("hqq.codes", np.clip(np.rint(W / s + z), 0, 7))
