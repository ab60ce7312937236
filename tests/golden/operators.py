"""Writes operators.json beside itself: filters and operators on images by an independent implementation, in float64.

    .venv/bin/python tests/golden/operators.py

Inputs are formulas that tests/samplers/operators_golden.cpp repeats; only outputs are stored.
"""
import json
import math
import pathlib

import numpy as np

out = {}


def keep(name, value):
    value = np.asarray(value)
    out[name] = {"shape": list(value.shape), "values": [float(f"{v:.9g}") for v in value.ravel()]}


def wave(shape, rate, phase):
    return np.sin(np.arange(math.prod(shape)) * rate + phase).reshape(shape)


image = 0.5 + 0.5 * wave((2, 3, 9, 8), 0.37, 0.3)
gradient = wave((2, 3, 9, 8), 1.7, 0.1)
N, C, H, W = image.shape


def blurred(x, deviation, repeated):
    reach = math.ceil(4 * deviation)
    taps = np.exp(-np.arange(-reach, reach + 1) ** 2 / (2 * deviation**2))
    taps /= taps.sum()
    made = np.zeros_like(x)
    for i in range(H):
        for j in range(W):
            for di, ti in zip(range(-reach, reach + 1), taps):
                for dj, tj in zip(range(-reach, reach + 1), taps):
                    y, z = i + di, j + dj
                    if repeated:
                        y, z = min(max(y, 0), H - 1), min(max(z, 0), W - 1)
                    if 0 <= y < H and 0 <= z < W:
                        made[:, :, i, j] += ti * tj * x[:, :, y, z]
    return made


keep("blur", blurred(image, 1.2, True))
keep("gradient_blur", blurred(image, 1.2, False))

made = np.zeros_like(image)
for n in range(N):
    for i in range(H):
        for j in range(W):
            total = 0.0
            for y in range(max(0, i - 3), min(H, i + 4)):
                for x in range(max(0, j - 3), min(W, j + 4)):
                    apart = ((image[n, :, i, j] - image[n, :, y, x]) ** 2).sum()
                    w = math.exp(-((i - y) ** 2 + (j - x) ** 2) / (2 * 1.3**2) - apart / (2 * 0.4**2))
                    made[n, :, i, j] += w * image[n, :, y, x]
                    total += w
            made[n, :, i, j] /= total
keep("bilateral", made)

keep("decay", np.array([0.1, 0.2, 0.3])[:, None, None] + 0.9 * (image - np.array([0.1, 0.2, 0.3])[:, None, None]))
keep("range", np.minimum(np.maximum(image, 0.2), 0.7))


def small(size, share, ground):
    made = image.copy()
    for n in range(N):
        order = sorted(range(H * W), key=lambda k: (size[n].ravel()[k], k))
        for k in order[:int(share * H * W)]:
            made[n, :, k // W, k % W] = ground
    return made


keep("small_norm", small(np.sqrt(((image - 0.5) ** 2).sum(1)), 0.35, 0.5))
keep("small_contribution", small(np.abs(((image - 0.5) * gradient).sum(1)), 0.35, 0.5))


# Total variation by another algorithm than the dual projection: the primal-dual one of Chambolle and Pock, to convergence.
def variation_step(x, weight):
    u, ubar = x.copy(), x.copy()
    p, q = np.zeros_like(x), np.zeros_like(x)
    for _ in range(20000):
        p[..., :-1, :] += 0.25 * (ubar[..., 1:, :] - ubar[..., :-1, :])
        q[..., :, :-1] += 0.25 * (ubar[..., :, 1:] - ubar[..., :, :-1])
        size = np.maximum(1, np.sqrt(p**2 + q**2) / weight)
        p, q = p / size, q / size
        down = p.copy()
        down[..., 1:, :] -= p[..., :-1, :]
        right = q.copy()
        right[..., :, 1:] -= q[..., :, :-1]
        before = u
        u = (u + 0.25 * (down + right) + 0.25 * x) / 1.25
        ubar = 2 * u - before
    return u


keep("total_variation", variation_step(image, 0.15))

colours = np.array([[0, 0, 0], [1, 0, 0], [0, 0.4, 0.8], [1, 1, 1]])
pixels = image.transpose(0, 2, 3, 1).reshape(-1, 3)
keep("palette", colours[((pixels[:, None] - colours[None]) ** 2).sum(2).argmin(1)].reshape(N, H, W, 3).transpose(0, 3, 1, 2))


# The nearest mixture by projected gradient descent on the shares, whose simplex is projected onto by sorting.
def on_simplex(v):
    u = -np.sort(-v, axis=1)
    sums = np.cumsum(u, axis=1) - 1
    size = (u - sums / np.arange(1, v.shape[1] + 1) > 0).sum(1)
    return np.maximum(v - (sums[np.arange(len(v)), size - 1] / size)[:, None], 0)


def mixture(mixed):
    shares = np.full((len(pixels), len(mixed)), 1 / len(mixed))
    rate = 1 / np.linalg.norm(mixed @ mixed.T, 2)
    for _ in range(20000):
        shares = on_simplex(shares - rate * (shares @ mixed - pixels) @ mixed.T)
    return (shares @ mixed).reshape(N, H, W, 3).transpose(0, 3, 1, 2)


keep("mixture", mixture(colours))
keep("mixture_two", mixture(colours[:2]))


# Laplacian normalization, a pixel at a time.
row = np.array([1, 4, 6, 4, 1]) / 16


def halved(x):
    h, w = (x.shape[2] + 1) // 2, (x.shape[3] + 1) // 2
    made = np.zeros(x.shape[:2] + (h, w))
    for i in range(h):
        for j in range(w):
            for a in range(5):
                for b in range(5):
                    y, z = 2 * i + a - 2, 2 * j + b - 2
                    if 0 <= y < x.shape[2] and 0 <= z < x.shape[3]:
                        made[:, :, i, j] += row[a] * row[b] * x[:, :, y, z]
    return made


def doubled(x, h, w):
    made = np.zeros(x.shape[:2] + (h, w))
    for i in range(x.shape[2]):
        for j in range(x.shape[3]):
            for a in range(5):
                for b in range(5):
                    y, z = 2 * i + a - 2, 2 * j + b - 2
                    if 0 <= y < h and 0 <= z < w:
                        made[:, :, y, z] += 4 * row[a] * row[b] * x[:, :, i, j]
    return made


def normalized(x):
    return x / np.maximum(np.sqrt((x**2).mean((1, 2, 3), keepdims=True)), 1e-10)


def laplacian(x, levels):
    if levels == 0:
        return normalized(x)
    half = halved(x)
    return doubled(laplacian(half, levels - 1), *x.shape[2:]) + normalized(x - doubled(half, *x.shape[2:]))


keep("laplacian", laplacian(gradient, 2))

file = pathlib.Path(__file__).with_suffix(".json")
file.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in out.items()) + "\n}\n")
print(file, file.stat().st_size, "bytes")
