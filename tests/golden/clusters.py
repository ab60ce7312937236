"""Writes clusters.json beside itself: k-means by an independent implementation, in float64, a row at a time.

    .venv/bin/python tests/golden/clusters.py

Inputs are formulas that tests/core/numbers/clusters_golden.cpp repeats. Random numbers are Philox4x32-10's.
"""
import json
import pathlib

import numpy as np


def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(q >> 32) ^ c[1] ^ k[0], q & 0xFFFFFFFF, (p >> 32) ^ c[3] ^ k[1], p & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def chirp(rows, columns, rate):
    i = np.arange(rows * columns)
    return np.sin(rate * i * i).reshape(rows, columns)


def k_means(points, count, seed):
    draws = iter(((philox([0, 0, 0, d], [seed, 0])[0] >> 9) + 0.5) / 2**23 for d in range(count))

    def drawn(weights):
        place, sums = next(draws) * sum(weights), 0.0
        for row, weight in enumerate(weights):
            sums += weight
            if sums > place:
                return row
        return len(weights) - 1

    centres = [points[drawn([1.0] * len(points))]]
    while len(centres) < count:
        centres.append(points[drawn([min(((p - c) ** 2).sum() for c in centres) for p in points])])
    of = None
    while True:
        now = [int(np.argmin([((p - c) ** 2).sum() for c in centres])) for p in points]
        assert set(now) == set(range(count))  # no centre loses its rows here
        if now == of:
            break
        of = now
        centres = [np.mean([p for p, k in zip(points, of) if k == c], axis=0) for c in range(count)]
    order = sorted(range(count), key=lambda c: -of.count(c))
    return [centres[c].tolist() for c in order], [order.index(k) for k in of]


out = {}
for name, count, seed in (("three", 3, 7), ("five", 5, 1)):
    centres, of = k_means(chirp(60, 4, 0.37), count, seed)
    out[name] = {"centres": [[float(f"{v:.12g}") for v in c] for c in centres], "of": of}
pathlib.Path(__file__).with_suffix(".json").write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in out.items()) + "\n}\n")
