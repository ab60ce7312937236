"""A step of `photographs_guided` (denoiser, decoder, four random crops, EfficientNet-Lite 0, the gradient through the denoiser) in evoke and
in Python: the same torch, threads, weights and noise scales; frozen networks, channels last, in float32 and, where the processor
has it, in bfloat16.

    .venv/bin/python tests/benchmarks/guided_step.py [REPETITIONS] [STEPS]

Prints a Markdown table of the milliseconds a step and the ratio, medians of the repetitions, which alternate between the ways.
"""
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

os.environ.setdefault("GOMP_SPINCOUNT", "1000")
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

root = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(root / "scripts"))
repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 3
steps = int(sys.argv[2]) if len(sys.argv) > 2 else 50
goldfish, strength, churn, views, side = 1, 12.0, 0.5, 4, 224
torch.set_num_threads(2)


def weights(name):
    """As float32, and what a convolution takes with its channels last."""
    last = lambda t: t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t
    return {key: last(value.float()) for key, value in load_file(root / f"experiments/weights/photographs_{name}.safetensors").items()}


class Named:
    """Layers by their names in a file."""

    def __init__(self, tensors, prefix):
        self.tensors, self.prefix = tensors, prefix

    def of(self, name, kind="weight"):
        return self.tensors[f"{self.prefix}.{name}.{kind}"]

    def convolve(self, x, name, stride=1, padding=1):
        return F.conv2d(x, self.of(name), self.of(name, "bias"), stride, padding)

    def dense(self, x, name):
        return F.linear(x, self.of(name), self.of(name, "bias"))

    def norm(self, x, name):
        return F.group_norm(x, 8, self.of(name), self.of(name, "bias"))


class Decoder(Named):
    def residual(self, x, name):
        return x + self.convolve(F.silu(self.convolve(F.silu(x), name + ".conv1")), name + ".conv2")

    def __call__(self, z):
        shuffled = lambda x, name: F.pixel_shuffle(self.convolve(x, name, padding=0), 2)
        x = self.convolve(self.convolve(z, "mix", padding=0), "code")
        x = shuffled(self.residual(self.residual(x, "eighth1"), "eighth2"), "up1")
        x = self.residual(shuffled(self.residual(x, "quarter1"), "up2"), "half1")
        return F.pixel_shuffle(self.convolve(x, "up3"), 2)


class Denoiser(Named):
    """Of whitened codes: the estimate of u from u + σε (Karras 2022)."""

    def blocks(self, x, way, told):
        for block in (f"{way}.block1", f"{way}.block2"):
            y = self.convolve(F.silu(self.norm(x, block + ".norm1")), block + ".conv1")
            scale, shift = self.dense(told, block + ".sigma")[..., None, None].chunk(2, 1)
            x = x + self.convolve(F.silu(self.norm(y, block + ".norm2") * (1 + scale) + shift), block + ".conv2")
        return x

    def __call__(self, u, sigma):
        c_skip, c_out, c_in = 1 / (1 + sigma**2), sigma / (1 + sigma**2) ** 0.5, 1 / (1 + sigma**2) ** 0.5
        # What the network is told of σ: 17 numbers; which ones makes no difference to the time.
        waves = torch.log(torch.tensor(sigma)) * 2.0 ** torch.arange(-4, 4)
        told = torch.cat([waves.sin(), waves.cos(), torch.log(torch.tensor([sigma]))])[None].expand(u.shape[0], -1)
        told = F.silu(self.dense(F.silu(self.dense(told, "sigma1")), "sigma2"))
        x = self.convolve((c_in * u).contiguous(memory_format=torch.channels_last), "in")
        fine = self.blocks(x, "down0", told)
        coarse = self.blocks(self.blocks(self.convolve(fine, "down1", 2, 0), "down1", told), "up1", told)
        x = fine + F.interpolate(self.convolve(coarse, "up1", padding=0), scale_factor=2)
        x = self.blocks(x, "up0", told)
        return c_skip * u + c_out * self.convolve(F.silu(self.norm(x, "out.norm")), "out")


def in_python(half):
    import photograph_networks

    target = photograph_networks.lite0().requires_grad_(False).to(memory_format=torch.channels_last)
    decoder, file = Decoder(weights("autoencoder"), "decoder"), weights("denoiser")
    denoiser, mean, deviation = Denoiser(file, "network"), file["mean"], file["deviation"]
    high, low, rho = 20.0, 0.05, 5.0
    scales = [(high ** (1 / rho) + k / (steps - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho for k in range(steps)] + [0.0]
    torch.manual_seed(0)
    u = scales[0] * torch.randn(1, 16, side // 8, side // 8)
    rounded = torch.autocast("cpu", torch.bfloat16, enabled=half)
    begun = time.perf_counter()
    for sigma, after in zip(scales, scales[1:]):
        u.requires_grad_(sigma < 10)
        with torch.set_grad_enabled(sigma < 10), rounded:
            reached = denoiser(u, sigma).float()
        estimate = reached.detach()
        if sigma < 10:
            with rounded:
                image = decoder((mean + deviation * reached).contiguous(memory_format=torch.channels_last)).float()
                crops = []
                for _ in range(views):
                    size = int(side * (0.4 + 0.6 * torch.rand(()).item()))
                    top, left = (int(torch.randint(0, side - size + 1, ())) for _ in range(2))
                    crop = image[:, :, top:top + size, left:left + size]
                    crops.append(F.interpolate(crop, (side, side), mode="bilinear", antialias=True))
                seen = (torch.cat(crops) * 2 - 1).contiguous(memory_format=torch.channels_last)
                score = torch.log_softmax(target(seen).float(), 1)[:, goldfish].mean()
            gradient = torch.autograd.grad(score, u)[0]
            estimate = estimate + strength * sigma / (1 + sigma**2) ** 0.5 * 0.1 * estimate.numel() ** 0.5 * gradient / gradient.norm()
            estimate = estimate * min(1.0, 1 / estimate.std().item())
        u = u.detach()
        u = estimate + after * ((1 - churn**2) ** 0.5 / sigma * (u - estimate) + churn * torch.randn_like(u))
    return (time.perf_counter() - begun) / steps


def in_evoke(folder, precision, k):
    out = folder / f"{precision}{k}"
    subprocess.run([root / "build/release/evoke", "sample", "photographs_guided", "-q", "--no-report", "--threads", "2", "--set",
                    f"classifier.weights='{folder / 'lite0.pt2'}'", "--set", f'objective.units=["output:{goldfish}"]', "--set",
                    f"run.steps={steps}", "--set", f"sampler.precision={precision}", "--out", str(out)],
                   check=True, stdout=subprocess.DEVNULL)
    return json.loads((out / "manifest.json").read_text())["sampling_seconds"] / steps


with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    subprocess.run([sys.executable, root / "scripts/export_network.py", "photograph_networks:lite0", "--size", str(side), "--preset",
                    "inception", "--out", folder / "lite0.pt2"],
                   check=True, env={**os.environ, "PYTHONPATH": str(root / "scripts")}, stdout=subprocess.DEVNULL)
    ways = {"Python, float32": lambda k: in_python(False), "evoke, float32": lambda k: in_evoke(folder, "float32", k)}
    if "avx512_bf16" in Path("/proc/cpuinfo").read_text():
        ways |= {"Python, bfloat16": lambda k: in_python(True), "evoke, bfloat16": lambda k: in_evoke(folder, "bfloat16", k)}
    times = {way: [] for way in ways}
    for k in range(repetitions):
        for way, measure in ways.items():
            times[way].append(measure(k))
    print("| way | ms a step, median | least | evoke / Python |\n|---|---|---|---|")
    for way, found in times.items():
        ratio = median(found) / median(times[way.replace("evoke", "Python")])
        print(f"| {way} | {1000 * median(found):.0f} | {1000 * min(found):.0f} | {ratio:.2f} |")
