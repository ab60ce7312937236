"""Writes judging.json beside itself: what experiments/judging/figures.h computes, by numpy and by the definitions.

    .venv/bin/python tests/golden/judging.py

Inputs are formulas that tests/experiments/judging/figures_golden.cpp repeats; only outputs are stored.
"""
import json
import pathlib

import numpy as np

out = {}


def keep(name, value):
    value = np.asarray(value, dtype=np.float64)
    out[name] = {"shape": list(value.shape), "values": [float(v) for v in value.ravel()]}


def chirp(rows, columns, rate):
    """Numbers without a pattern: sin(rate · i²)."""
    i = np.arange(rows * columns, dtype=np.float64)
    return np.sin(rate * i * i).reshape(rows, columns)


def radii(points, k):
    """Each point's distance to its k-th nearest neighbour, one pair at a time."""
    return np.array([sorted(np.sqrt(((p - q) ** 2).sum()) for j, q in enumerate(points) if j != i)[k - 1] for i, p in enumerate(points)])


def nearness(points, r, queries):
    return np.array([min(np.sqrt(((q - p) ** 2).sum()) / d for p, d in zip(points, r)) for q in queries])


def spectrum_slope(image):
    """[C,H,W], by a sum over the pixels of every frequency's own wave."""
    grey = image.mean(0)
    grey = grey - grey.mean()
    h, w = grey.shape
    window = lambda n: 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
    grey = grey * window(h)[:, None] * window(w)[None, :]
    wave = lambda n: np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n)
    power = np.abs(wave(h) @ grey @ wave(w)) ** 2
    side, rings = min(h, w), {}
    for y in range(h):
        for x in range(w):
            fy, fx = (y if y < (h + 1) // 2 else y - h) / h, (x if x < (w + 1) // 2 else x - w) / w
            rings.setdefault(int(np.round(side * np.hypot(fy, fx))), []).append(power[y, x])
    r = np.arange(2, side // 2 + 1)
    return np.polyfit(np.log(r), np.log([np.mean(rings[i]) for i in r]), 1)[0]


real, made = chirp(60, 6, 0.37), 0.8 * chirp(45, 6, 0.53) + 0.3
keep("radii", radii(real, 5))
keep("nearness", nearness(real, radii(real, 5), made))
keep("left_out", [nearness(np.delete(real, i, 0), np.delete(radii(real, 5), i), real[i:i + 1])[0] for i in range(len(real))])
keep("precision", (nearness(real, radii(real, 5), made) <= 1).mean())
keep("recall", (nearness(made, radii(made, 5), real) <= 1).mean())

cov_real, cov_made = np.cov(real.T), np.cov(made.T)
keep("frechet", ((real.mean(0) - made.mean(0)) ** 2).sum() + np.trace(cov_real) + np.trace(cov_made)
     - 2 * np.sqrt(np.linalg.eigvals(cov_real @ cov_made).astype(complex)).real.sum())

cosine = made / np.linalg.norm(made, axis=1, keepdims=True)
eigenvalues = np.linalg.eigvalsh(cosine @ cosine.T / len(made))
eigenvalues = eigenvalues[eigenvalues > 0]
keep("vendi", np.exp(-(eigenvalues * np.log(eigenvalues)).sum()))

images = np.stack([chirp(3 * 24, 20, rate).reshape(3, 24, 20) for rate in (0.37, 0.011, 0.0007)])
keep("slope", [spectrum_slope(image) for image in images])

pathlib.Path(__file__).with_suffix(".json").write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in out.items()) + "\n}\n")
