"""Writes linear_algebra.json beside itself: what core/numbers/linear_algebra.h computes, by numpy and by other ways than evoke's.

    .venv/bin/python tests/golden/linear_algebra.py

Inputs are formulas that tests/core/numbers/linear_algebra_golden.cpp repeats; only outputs are stored.
"""
import json
import pathlib

import numpy as np

out = {}


def keep(name, value):
    value = np.asarray(value, dtype=np.float64)
    out[name] = {"shape": list(value.shape), "values": [float(v) for v in value.ravel()]}


def chirp(rows, columns, rate):
    """Numbers without a pattern: sin(rate · i²), each column a little wider and further off than the one before."""
    i = np.arange(rows * columns, dtype=np.float64)
    x = np.sin(rate * i * i).reshape(rows, columns)
    return x * (1 + np.arange(columns)) + 10 * np.arange(columns)


def square_root(a):
    """Denman & Beavers 1976."""
    y, z = a, np.eye(len(a))
    for _ in range(60):
        y, z = (y + np.linalg.inv(z)) / 2, (z + np.linalg.inv(y)) / 2
    return y


def components(name, x, count):
    """By the singular values of the centred data; the largest coordinate of each direction is positive."""
    _, s, v = np.linalg.svd(x - x.mean(0), full_matrices=False)
    v = v[:count]
    v = v * np.sign(v[np.arange(count), np.abs(v).argmax(1)])[:, None]
    keep(name + "/directions", v)
    keep(name + "/variances", s[:count] ** 2 / (len(x) - 1))


a, b = chirp(40, 7, 0.37), chirp(25, 7, 0.53)
cov_a, cov_b = np.cov(a.T), np.cov(b.T)
keep("mean", a.mean(0))
keep("covariance", cov_a)
keep("factor", np.linalg.cholesky(cov_a))
keep("inverse", np.linalg.inv(np.linalg.cholesky(cov_a)))
keep("log_determinant", np.linalg.slogdet(cov_a)[1] / 2)
keep("eigenvalues", np.linalg.eigvalsh(cov_a))
keep("square_root", square_root(cov_a))
# Σ₁Σ₂ has the eigenvalues of Σ₁^½ Σ₂ Σ₁^½.
keep("frechet", ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b)
     - 2 * np.sqrt(np.linalg.eigvals(cov_a @ cov_b).real).sum())
components("tall", a, 3)
components("wide", chirp(5, 12, 0.37), 4)

pathlib.Path(__file__).with_suffix(".json").write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in out.items()) + "\n}\n")
