"""Writes classifiers.json beside itself: the classifiers, objectives and transforms by an independent implementation, in float64.

    .venv/bin/python tests/golden/classifiers.py

Inputs are formulas that tests/classifiers/reference_golden.cpp repeats; only outputs are stored. Random numbers are Philox4x32-10's.
"""
import json
import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
out = {}


def keep(name, value):
    value = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    out[name] = {"shape": list(value.shape), "values": [float(f"{v:.9g}") for v in value.ravel()]}


def wave(shape, rate, phase):
    return torch.sin(torch.arange(math.prod(shape), dtype=torch.float64) * rate + phase).reshape(shape)


# Networks: the weights in the order of their names, the k-th a sine of phase k.
def weights(shapes):
    made = {}
    for k, name in enumerate(sorted(shapes)):
        shape = shapes[name]
        if len(shape) > 1:
            made[name] = wave(shape, 0.37, k) * 1.5 / math.sqrt(math.prod(shape[1:]))
        else:
            made[name] = 0.1 * wave(shape, 0.37, k) + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
    return made


images = 0.5 + 0.5 * wave((2, 3, 16, 16), 0.11, 0.3)

w = weights({
    "conv1.weight": (8, 3, 5, 5), "conv1.bias": (8,), "conv2.weight": (16, 8, 5, 5), "conv2.bias": (16,),
    "conv3.weight": (8, 16, 3, 3), "conv3.bias": (8,), "conv4.weight": (32, 8, 3, 3), "conv4.bias": (32,),
    "conv5.weight": (32, 32, 3, 3), "conv5.bias": (32,), "dense1.weight": (64, 128), "dense1.bias": (64,),
    "logits.weight": (5, 64), "logits.bias": (5,)})
x = images
for i, (reach, pool) in enumerate([(2, True), (2, True), (1, False), (1, True), (1, False)], 1):
    x = F.conv2d(x, w[f"conv{i}.weight"], w[f"conv{i}.bias"], padding=reach)
    if i == 3:
        keep("convolutional/conv3", x)
    x = F.relu(x)
    if pool:
        x = F.max_pool2d(x, 2)
x = F.relu(x.reshape(2, -1) @ w["dense1.weight"].T + w["dense1.bias"])
keep("convolutional/logits", x @ w["logits.weight"].T + w["logits.bias"])


def normed(x, groups, scale, shift):
    y = x.reshape(x.shape[0], groups, -1)
    y = (y - y.mean(2, keepdim=True)) / torch.sqrt(y.var(2, unbiased=False, keepdim=True) + 1e-5)
    return y.reshape(x.shape) * scale[None, :, None, None] + shift[None, :, None, None]


def residual_logits(blocks):
    shapes = {"stem.weight": (8, 3, 3, 3), "stem.bias": (8,), "norm.weight": (64,), "norm.bias": (64,), "logits.weight": (5, 256),
              "logits.bias": (5,)}
    chain = []  # name, channels before, channels behind, stride
    for i, (a, b) in enumerate([(8, 16), (16, 32), (32, 64)], 1):
        chain += [(f"block{i}", a, b, 2)] + [(f"block{i}_{k}", b, b, 1) for k in range(2, blocks + 1)]
    for name, a, b, stride in chain:
        shapes |= {f"{name}.norm1.weight": (a,), f"{name}.norm1.bias": (a,), f"{name}.norm2.weight": (b,), f"{name}.norm2.bias": (b,),
                   f"{name}.conv1.weight": (b, a, 3, 3), f"{name}.conv2.weight": (b, b, 3, 3)}
        if stride > 1:
            shapes[f"{name}.shortcut.weight"] = (b, a, 1, 1)
    w = weights(shapes)
    x = F.conv2d(images, w["stem.weight"], w["stem.bias"], padding=1)
    for name, a, b, stride in chain:
        y = F.relu(normed(x, max(1, a // 8), w[f"{name}.norm1.weight"], w[f"{name}.norm1.bias"]))
        straight = F.conv2d(y, w[f"{name}.shortcut.weight"], stride=2) if stride > 1 else x
        y = F.conv2d(y, w[f"{name}.conv1.weight"], stride=stride, padding=1)
        y = F.relu(normed(y, max(1, b // 8), w[f"{name}.norm2.weight"], w[f"{name}.norm2.bias"]))
        x = straight + F.conv2d(y, w[f"{name}.conv2.weight"], padding=1)
    x = F.relu(normed(x, 8, w["norm.weight"], w["norm.bias"])).flatten(1)
    return x @ w["logits.weight"].T + w["logits.bias"]


keep("residual/logits", residual_logits(1))
keep("residual of three blocks a size/logits", residual_logits(3))


def resnet9_logits():
    convolutions = {"stem": (8, 3), "conv1": (16, 8), "conv2": (32, 16), "conv3": (64, 32)}
    convolutions |= {f"block{n}_conv_{k}": (c, c) for n, c in ((1, 16), (3, 64)) for k in (1, 2)}
    shapes = {f"{name}.weight": (*channels, 3, 3) for name, channels in convolutions.items()} | {"logits.weight": (5, 64), "logits.bias": (5,)}

    def norm_of(name):
        return "stem_norm" if name == "stem" else name.replace("conv", "norm")

    for name, (out, _) in convolutions.items():
        shapes |= {f"{norm_of(name)}.weight": (out,), f"{norm_of(name)}.bias": (out,)}
    w = weights(shapes)

    def layer(x, name, pooled=False):
        filters = w[f"{name}.weight"]
        variance, mean = torch.var_mean(filters, (1, 2, 3), correction=0, keepdim=True)
        x = F.conv2d(x, (filters - mean) / torch.sqrt(variance + 1e-10), padding=1)
        x = F.max_pool2d(x, 2) if pooled else x
        return F.relu(normed(x, x.shape[1] // 8, w[f"{norm_of(name)}.weight"], w[f"{norm_of(name)}.bias"]))

    x = layer(images, "stem")
    for n in (1, 2, 3):
        x = layer(x, f"conv{n}", pooled=True)
        if n != 2:
            x = x + layer(layer(x, f"block{n}_conv_1"), f"block{n}_conv_2")
    return x.mean((2, 3)) @ w["logits.weight"].T + w["logits.bias"]


keep("resnet9/logits", resnet9_logits())

# Objectives of a map [4,6,5,7], logits [4,9] and images [4,3,5,6]: values, and the slope of Σ score · (row + 2·column + 1).
a = (wave((4, 6, 5, 7), 0.7, 0.2) + 0.3).requires_grad_()
logits = (3.0 * wave((4, 9), 1.3, 0.5)).requires_grad_()
x = (0.5 + 0.5 * wave((4, 3, 5, 6), 0.9, 0.1)).requires_grad_()
directions = wave((2, 6), 1.9, 0.4)
groups = [0, 1, 0, 0]


def objective(name, columns, source):
    score = torch.stack(columns, 1)
    factor = torch.arange(score.shape[0])[:, None] + 2.0 * torch.arange(score.shape[1])[None] + 1.0
    (slope,) = torch.autograd.grad((score * factor).sum(), source, retain_graph=True)
    keep(f"objective/{name}", score)
    keep(f"slope/{name}", slope)


objective("unit", [a[:, 4, 2, 3], a[:, 1, 0, 6], a[:, 5, 2, 3]], a)
objective("channel", [a[:, c].sum((1, 2)) / 35 for c in (0, 5, 2)], a)
objective("logit", [logits[:, 7], logits[:, 0]], logits)
chance = torch.exp(logits) / torch.exp(logits).sum(1, keepdim=True)
objective("softmax", [chance[:, 7], chance[:, 0]], logits)
objective("log_softmax", [torch.log(chance[:, 7]), torch.log(chance[:, 0])], logits)
objective("layer", [(a * a).mean((1, 2, 3))], a)
columns = []
for v in directions:
    dot = torch.einsum("nchw,c->nhw", a, v)
    cosine = dot / torch.sqrt((a * a).sum(1)) / torch.sqrt((v * v).sum())
    columns.append((dot * torch.clamp(cosine, min=0.1) ** 3.0).mean((1, 2)))
objective("direction", columns, a)
for name, group in (("diversity", [0] * 4), ("diversity_in_groups", groups)):
    gram = [torch.einsum("chw,dhw->cd", row, row) for row in a]
    rows = []
    for i in range(4):
        rows.append(sum((-0.5 * (gram[i] * gram[j]).sum() / gram[i].norm() / gram[j].norm()
                         for j in range(4) if j != i and group[i] == group[j]), torch.zeros(())))
    objective(name, [torch.stack(rows)], a)
objective("total_variation", [-((x[:, :, 1:] - x[:, :, :-1]).abs().sum((1, 2, 3)) + (x[..., 1:] - x[..., :-1]).abs().sum((1, 2, 3)))], x)
down, right = F.pad(x[:, :, 1:] - x[:, :, :-1], (0, 0, 0, 1)), F.pad(x[..., 1:] - x[..., :-1], (0, 1))
objective("total_variation_length", [-torch.sqrt(down[:, :, :-1, :-1] ** 2 + right[:, :, :-1, :-1] ** 2).sum((1, 2, 3))
                                     - down[:, :, :-1, -1].abs().sum((1, 2)) - right[:, :, -1, :-1].abs().sum((1, 2))], x)
# A blur as a matrix over the rows, and one over the columns.
def blur_matrix(size, deviation):
    made = torch.zeros(size, size)
    reach = math.ceil(4 * deviation)
    taps = torch.exp(-torch.arange(-reach, reach + 1) ** 2 / (2 * deviation**2))
    for i in range(size):
        for k in range(-reach, reach + 1):
            made[i, min(max(i + k, 0), size - 1)] += taps[k + reach] / taps.sum()
    return made


objective("blur", [-((x - blur_matrix(5, 0.8) @ x @ blur_matrix(6, 0.8).T) ** 2).sum((1, 2, 3))], x)
numbers = [[torch.zeros(()) for _ in range(30)] for _ in range(4)]
total = 0
for n in range(4):
    for i in range(5):
        for j in range(6):
            weights_, mixed = 0, 0
            for y in range(max(0, i - 2), min(5, i + 3)):
                for z in range(max(0, j - 2), min(6, j + 3)):
                    w_ = torch.exp(-((x[n, :, i, j] - x[n, :, y, z]) ** 2).sum() / (2 * 0.5**2)) * math.exp(
                        -((i - y) ** 2 + (j - z) ** 2) / (2 * 0.9**2))
                    weights_, mixed = weights_ + w_, mixed + w_ * x[n, :, y, z]
            numbers[n][i * 6 + j] = ((x[n, :, i, j] - mixed / weights_) ** 2).sum()
objective("bilateral", [torch.stack([-sum(row) for row in numbers])], x)
r2 = ((torch.arange(5) - 2.0) ** 2)[:, None] / 9 + ((torch.arange(6) - 2.5) ** 2)[None] / 9
objective("centre", [-((1 - torch.exp(-r2 / (2 * 0.4**2))) * (x - 0.5) ** 2).sum((1, 2, 3))], x)
# Patches of 2 × 2, their Gaussian and twelve of them.
examples = 0.5 + 0.5 * wave((12, 3, 2, 2), 2.3, 0.2)
spread = wave((12, 12), 0.77, 0.1)
law = torch.distributions.MultivariateNormal(0.4 + 0.1 * wave((12,), 1.1, 0.0), spread @ spread.T / 12 + 0.1**2 * torch.eye(12))
patches = [[row[:, i:i + 2, j:j + 2].reshape(-1) for i in range(4) for j in range(5)] for row in x]
objective("patches", [torch.stack([sum(law.log_prob(p) for p in row) for row in patches])], x)
strided = [[row[:, i:i + 2, j:j + 2].reshape(-1) for i in (0, 3) for j in (0, 3)] for row in x]
objective("nearest_patches", [torch.stack([-sum(min(((p - q.reshape(-1)) ** 2).sum() for q in examples) for p in row) for row in strided])], x)
sought = wave((6, 5, 7), 1.1, 0.9)
objective("inversion", [-((a - sought) ** 2).sum((1, 2, 3)) / (sought**2).sum()], a)
dot = (a * sought).sum((1, 2, 3))
cosine = dot / torch.sqrt((a**2).sum((1, 2, 3)) * (sought**2).sum())
objective("caricature", [dot * torch.clamp(cosine, min=0.1) ** 2.0], a)
objective("l2", [-((x - 0.25) ** 2).sum((1, 2, 3))], x)
objective("l1", [-(x - 0.25).abs().sum((1, 2, 3))], x)
t = torch.tensor([0, 1 / 3, 2 / 3, 1])
objective("interpolation", [(1 - t) * logits[:, 7] + t * logits[:, 0]], logits)


# Transforms: the stacks, pixel by pixel, from Philox's own words.
def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(q >> 32) ^ c[1] ^ k[0], q & 0xFFFFFFFF, (p >> 32) ^ c[3] ^ k[1], p & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def uniform(seed, chain, step, draw, count):
    return [((word >> 9) + 0.5) / 2**23 for word in philox([0, chain, step, draw], [seed & 0xFFFFFFFF, seed >> 32])[:count]]


def sampled(x, inverse, side_y, side_x, ground):
    height, width = x.shape
    made = np.empty((side_y, side_x))

    def pixel(i, j):
        return x[i, j] if 0 <= i < height and 0 <= j < width else ground

    for i in range(side_y):
        for j in range(side_x):
            px, py, _ = inverse @ np.array([j + 0.5 - side_x / 2, i + 0.5 - side_y / 2, 1.0])
            u, v = px + width / 2 - 0.5, py + height / 2 - 0.5
            j0, i0 = math.floor(u), math.floor(v)
            fu, fv = u - j0, v - i0
            made[i, j] = ((1 - fv) * ((1 - fu) * pixel(i0, j0) + fu * pixel(i0, j0 + 1))
                          + fv * ((1 - fu) * pixel(i0 + 1, j0) + fu * pixel(i0 + 1, j0 + 1)))
    return made


def moved(dx, dy):
    return np.array([[1, 0, dx], [0, 1, dy], [0, 0, 1.0]])


def turned(degrees):  # clockwise as seen, where y runs downwards
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


picture = 0.5 + 0.5 * wave((2, 1, 12, 10), 0.29, 0.3)
lucid, shapes = [], []
for row, chain in enumerate((3, 41)):
    def of(draw, count):
        return uniform(77, chain, 5, draw, count)

    first, size, angle, last = of(0, 2), of(1, 1)[0], of(2, 1)[0], of(3, 2)
    forward = moved(*(math.floor(9 * u) - 4 for u in first))
    forward = np.diag([1 + (math.floor(11 * size) - 5) / 50] * 2 + [1.0]) @ forward
    forward = turned((list(range(-10, 11)) + 5 * [0])[math.floor(26 * angle)]) @ forward
    forward = moved(*(math.floor(5 * u) - 2 for u in last)) @ forward
    lucid.append(sampled(picture[row, 0].numpy(), np.linalg.inv(forward), 12, 10, 0.5))

    first, angle = of(0, 2), of(1, 1)[0]
    forward = turned(360 * angle) @ moved(*(math.floor(21 * u) - 10 for u in first))
    shapes.append(sampled(picture[row, 0].numpy(), np.linalg.inv(forward), 12, 10, 0.0))
keep("transform/lucid", np.stack(lucid)[:, None])
keep("transform/shapes", np.stack(shapes)[:, None])

blurred = np.zeros((2, 1, 12, 10))
taps = np.exp(-np.arange(-6, 7) ** 2 / (2 * 1.5**2))
taps /= taps.sum()
for i in range(12):
    for j in range(10):
        for di, ti in zip(range(-6, 7), taps):
            for dj, tj in zip(range(-6, 7), taps):
                blurred[:, :, i, j] += ti * tj * picture[:, :, min(max(i + di, 0), 11), min(max(j + dj, 0), 9)].numpy()
keep("transform/blur", blurred)

file = pathlib.Path(__file__).with_suffix(".json")
file.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in out.items()) + "\n}\n")
print(file, file.stat().st_size, "bytes")
