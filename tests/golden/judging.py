"""Writes judging.json beside itself: what experiments/judging/figures.h computes, and Spearman's correlation, by numpy and by definition.

    .venv/bin/python tests/golden/judging.py

Inputs are formulas that tests/experiments/judging/figures_golden.cpp repeats; only outputs are stored.
"""
import json
import math
import pathlib
import statistics

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


def mean_rank(values):
    """One value at a time: how many are below, and the middle of those that are equal."""
    return np.array([(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values])


def wilson(successes, trials):
    """The p at which the share found lies z standard errors away: the roots of (share - p)² = z²·p·(1 - p)/n."""
    z2, share = statistics.NormalDist().inv_cdf(0.975) ** 2 / trials, successes / trials
    return np.sort(np.roots([1 + z2, -2 * share - z2, share * share]).real)


def law_of_mean(values, unit):
    """Of the mean of as many draws, values being whole multiples of `unit`: its values and their probabilities, one convolution a draw."""
    whole = np.round(values / unit).astype(int)
    one = np.bincount(whole - whole.min()) / len(values)
    law = np.ones(1)
    for _ in values:
        law = np.convolve(law, one)
    return (np.arange(len(law)) + len(values) * whole.min()) * unit / len(values), law


def law_of_median(values):
    """Of the median of as many draws, all values being different. Odd n: it is at most the i-th value where more than half of the draws
    are among the first i. Even n: the middle two draws are the i-th and j-th value, i < j, where n/2 draws are among the first i and reach
    it, and n/2 are among those from j on and reach it."""
    v, n = np.sort(values), len(values)
    share = np.arange(n + 1) / n
    at_most = lambda draws: np.array([sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(draws, n + 1)) for p in share])
    if n % 2:
        return v, np.diff(at_most(n // 2 + 1))
    reach = np.diff(share ** (n // 2))  # of the first i, and by symmetry of the last i
    middle = np.triu(math.comb(n, n // 2) * np.outer(reach, reach[::-1]), 1)
    middle += np.diag(np.diff(at_most(n // 2)) - middle.sum(1))
    return ((v[:, None] + v) / 2).ravel(), middle.ravel()


def ends(law, share=0.025):
    """What the two tails of `share` leave out."""
    values, probabilities = (a[np.argsort(law[0], kind="stable")] for a in law)
    below = np.cumsum(probabilities)
    assert abs(below[-1] - 1) < 1e-9
    return values[np.searchsorted(below, [share, 1 - share])]


def keep_ends(name, law):
    """Only where 100,000 resamples say the same: five of their standard errors more or less in the tails move no end by 1e-3."""
    error = 5 * np.sqrt(0.025 * 0.975 / 100_000)
    assert max(np.ptp([ends(law, share) for share in (0.025 - error, 0.025, 0.025 + error)], axis=0)) < 1e-3, name
    keep(name, ends(law))


real, made = chirp(60, 6, 0.37), 0.8 * chirp(45, 6, 0.53) + 0.3
keep("radii", radii(real, 5))
keep("nearness", nearness(real, radii(real, 5), made))
keep("left_out", [nearness(np.delete(real, i, 0), np.delete(radii(real, 5), i), real[i:i + 1])[0] for i in range(len(real))])
wide = 1.5 * made  # some of them outside
keep("precision", (nearness(real, radii(real, 5), wide) <= 1).mean())
keep("recall", (nearness(wide, radii(wide, 5), real) <= 1).mean())

cov_real, cov_made = np.cov(real.T), np.cov(made.T)
keep("frechet", ((real.mean(0) - made.mean(0)) ** 2).sum() + np.trace(cov_real) + np.trace(cov_made)
     - 2 * np.sqrt(np.linalg.eigvals(cov_real @ cov_made).astype(complex)).real.sum())

cosine = made / np.linalg.norm(made, axis=1, keepdims=True)
eigenvalues = np.linalg.eigvalsh(cosine @ cosine.T / len(made))
eigenvalues = eigenvalues[eigenvalues > 0]
keep("vendi", np.exp(-(eigenvalues * np.log(eigenvalues)).sum()))

images = np.stack([chirp(3 * 24, 20, rate).reshape(3, 24, 20) for rate in (0.37, 0.011, 0.0007)])
keep("slope", [spectrum_slope(image) for image in images])

one, other = (np.round(4 * chirp(1, 80, rate).ravel()) for rate in (0.37, 0.53))  # nine different values: many are equal
keep("spearman", np.corrcoef(mean_rank(one), mean_rank(np.exp(2 * one + other)))[0, 1])

cases = [(0, 1), (1, 1), (0, 20), (20, 20), (1, 29), (3, 10), (7, 10), (81, 263), (999, 1000)]
keep("wilson", [wilson(k, n) for k, n in cases])

values = 0.03 * np.exp(chirp(1, 100, 0.37).ravel())
keep_ends("median_of_99", law_of_median(values[:99]))
keep_ends("median_of_100", law_of_median(values))
keep_ends("mean_of_100", law_of_mean(np.round(values, 3), 0.001))



def classes_of_images(count, rate):
    """uint8 [count,8,8,3], image i of class i % 4, which gives each channel a mean of its own and the image its contrast."""
    waves = chirp(count, 8 * 8 * 3, rate).reshape(count, 8, 8, 3)
    label = np.arange(count) % 4
    means = np.cos(1.3 * np.arange(4)[:, None] + 2.1 * np.arange(3))[label]
    return np.floor(127.5 + 8 * (label + 1)[:, None, None, None] * waves + 48 * means[:, None, None] + 16 * waves[:, :1, :1]).astype(np.uint8)


def depths(images):
    """Of a network whose layers are the image and its square: the statistics of each channel [N,4C]; and four logits."""
    x = (images / np.float32(255)).astype(np.float64)
    statistics = []
    for a in (x, x * x):
        mean = a.mean((1, 2))
        centred = a - mean[:, None, None]
        variance = (centred**2).mean((1, 2))
        across = (centred[:, :, :-1] * centred[:, :, 1:]).mean((1, 2)) / (variance + 1e-6)
        down = (centred[:, :-1] * centred[:, 1:]).mean((1, 2)) / (variance + 1e-6)
        statistics.append(np.concatenate([mean, np.sqrt(variance), across, down], 1))
    return statistics, x.mean((1, 2)) @ np.cos(1.3 * np.arange(4)[:, None] + 2.1 * np.arange(3)).T


known, left_out, pictures = classes_of_images(160, 0.37), classes_of_images(40, 0.53), classes_of_images(12, 0.71)
(known_depths, logits), (left_depths, left_logits), (picture_depths, _) = depths(known), depths(left_out), depths(pictures)
exciting = np.argsort(-logits, 0)[:40]  # of each class a quarter
least = np.take_along_axis(logits, exciting, 0)[-1]
for depth in range(2):
    mean, deviation = known_depths[depth].mean(0), known_depths[depth].std(0, ddof=1)
    points, left, made = ((d[depth] - mean) / deviation for d in (known_depths, left_depths, picture_depths))
    ball = radii(points, 5)
    ball = np.maximum(ball, np.median(ball))
    to_unit = lambda rows, unit: nearness(points[exciting[:, unit]], ball[exciting[:, unit]], rows)
    stretch = np.quantile(np.concatenate([to_unit(points[logits[:, u] < least[u]], u) for u in range(4)]), 0.02)
    of_left = [to_unit(left, u) <= stretch for u in range(4)]
    keep(f"target_path_{depth}", np.stack([to_unit(made, u) for u in range(4)], 1))
    keep(f"target_path_stretch_{depth}", stretch)
    keep(f"target_path_left_out_{depth}", np.concatenate([of_left[u][left_logits[:, u] >= least[u]] for u in range(4)]).mean())
    keep(f"target_path_others_{depth}", np.concatenate([of_left[u][left_logits[:, u] < least[u]] for u in range(4)]).mean())

pathlib.Path(__file__).with_suffix(".json").write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in out.items()) + "\n}\n")
