"""Writes waves.json beside itself: what the generators fourier and maco draw, and what a spectrum measures, by numpy.

    .venv/bin/python tests/golden/waves.py

Inputs are formulas that tests/generators/waves_golden.cpp repeats; only outputs are stored.
"""
import json
import pathlib

import numpy as np

out = {}
IMAGENET = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])


def keep(name, value):
    value = np.asarray(value, dtype=np.float64)
    out[name] = {"shape": list(value.shape), "values": [float(f"{v:.14g}") for v in value.ravel()]}


def chirp(*shape):
    """Numbers without a pattern: sin(0.37 · i²)."""
    i = np.arange(np.prod(shape), dtype=np.float64)
    return np.sin(0.37 * i * i).reshape(shape)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def normalized(factor):
    return factor / np.sqrt((factor * factor).sum(0)).max()


def scale(h, w, decay):
    fy, fx = np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None, :]
    f = np.sqrt(fy**2 + fx**2)
    return np.sqrt(w * h) / np.maximum(f, 1 / max(w, h)) ** decay


def colours(matrix, x):
    return np.einsum("ck,nkhw->nchw", matrix, x)


def fourier(z, h, w, decay, matrix):
    waves = (z[..., 0] + 1j * z[..., 1]) * scale(h, w, decay)
    return sigmoid(colours(matrix, np.fft.irfft2(waves, s=(h, w)) / 4))


def fourier_code(x, decay, matrix):
    h, w = x.shape[2:]
    logit = np.log(x) - np.log1p(-x)
    waves = np.fft.rfft2(4 * colours(np.linalg.inv(matrix), logit)) / scale(h, w, decay)
    return np.stack([waves.real, waves.imag], -1)


def standardized(x):
    axes = tuple(range(1, x.ndim))
    return (x - x.mean(axes, keepdims=True)) / (x.std(axes, keepdims=True) + 1e-5)


def maco(phase, magnitude, h, w, spread, contrast, matrix):
    image = np.fft.irfft2(magnitude * np.exp(1j * spread * standardized(phase)), s=(h, w))
    return sigmoid(contrast * colours(matrix, standardized(image)))


def resized(magnitude, have, want):
    """Linear in each frequency, cycles per pixel, by np.interp over an axis whose ends are repeated."""
    (h, w), (h2, w2) = have, want
    rows = np.fft.fftfreq(h)
    order = np.argsort(rows)
    known = np.concatenate([[rows[order][-1] - 1], rows[order], [rows[order][0] + 1]])
    tall = np.empty((len(magnitude), h2, magnitude.shape[2]))
    for c in range(len(magnitude)):
        for x in range(magnitude.shape[2]):
            column = magnitude[c, order, x]
            tall[c, :, x] = np.interp(np.fft.fftfreq(h2), known, np.concatenate([[column[-1]], column, [column[0]]]))
    wide = np.empty((len(magnitude), h2, w2 // 2 + 1))
    for c in range(len(magnitude)):
        for y in range(h2):
            wide[c, y] = np.interp(np.fft.rfftfreq(w2), np.fft.rfftfreq(w), tall[c, y])
    return wide


for h, w in [(6, 8), (7, 9), (8, 5)]:
    size = f"{h}x{w}"
    z = 0.2 * chirp(2, 3, h, w // 2 + 1, 2)
    keep(f"fourier/{size}", fourier(z, h, w, 1.0, normalized(IMAGENET)))
    keep(f"fourier_plain/{size}", fourier(z, h, w, 0.6, np.eye(3)))
    x = 0.5 + 0.45 * chirp(2, 3, h, w)
    keep(f"code/{size}", fourier_code(x, 1.0, normalized(IMAGENET)))
    lower = np.eye(3) + 0.2 * np.tri(3, k=-1)
    magnitude = 1.5 + chirp(3, h, w // 2 + 1)
    keep(f"maco/{size}", maco(2 * chirp(2, 3, h, w // 2 + 1), magnitude, h, w, 1.0, 1.7, normalized(lower)))
    keep(f"maco_spread/{size}", maco(2 * chirp(2, 3, h, w // 2 + 1), magnitude, h, w, 2.5, 1.0, np.eye(3)))
    for h2, w2 in [(6, 8), (13, 4), (5, 17)]:
        keep(f"resized/{size}/{h2}x{w2}", resized(magnitude, (h, w), (h2, w2)))

images = 0.5 + 0.1 * np.einsum("ck,nkhw->nchw", np.array([[3, 0.5, 0.1], [3, 0, -0.2], [2.5, -0.6, 0.3]]) / 3, chirp(5, 3, 6, 9))
pixels = images.transpose(0, 2, 3, 1).reshape(-1, 3)
factor = np.linalg.cholesky(np.cov(pixels.T))
keep("measured/mean", pixels.mean(0))
keep("measured/factor", factor)
white = np.einsum("ck,nkhw->nchw", np.linalg.inv(factor), images - pixels.mean(0)[:, None, None])
keep("measured/magnitude", np.abs(np.fft.rfft2(white, norm="ortho")).mean(0))

pathlib.Path(__file__).with_name("waves.json").write_text(json.dumps(out, separators=(",", ":")).replace('"measured/m', '\n"measured/m') + "\n")
