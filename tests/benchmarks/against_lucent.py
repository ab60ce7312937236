"""512 steps of pixel ascent on inception4a:5 of GoogLeNet at 224 px with Lucid's transforms, four ways in one run, same torch, two threads:
evoke; lucent itself; and the same loop in Python at its best (frozen weights, channels last, one affine resample), once through the whole
network, as a hook does it, and once no further than the layer.

    .venv/bin/pip install torch-lucent
    .venv/bin/python tests/benchmarks/against_lucent.py [STEPS] [REPETITIONS]
"""
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median

warnings.filterwarnings("ignore")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
import torch
import torchvision

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 512
repetitions = int(sys.argv[2]) if len(sys.argv) > 2 else 3
root = Path(__file__).resolve().parents[2]
torch.set_num_threads(2)
torch.manual_seed(0)
model = torchvision.models.googlenet(weights=None, aux_logits=False, init_weights=False).eval()


def by_lucent():
    from lucent.optvis import objectives, param, render

    torch.manual_seed(1)
    begun = time.perf_counter()
    render.render_vis(model, objectives.channel("inception4a", 5), lambda: param.image(224, fft=False, decorrelate=False), thresholds=(steps,),
                      progress=False, show_image=False)
    return (time.perf_counter() - begun) / steps


class Reached(Exception):
    pass


def by_python(stops):
    """stops: the hook ends the pass where it has what it wants."""
    import torch.nn.functional as F

    frozen = torchvision.models.googlenet(weights=None, aux_logits=False, init_weights=False).eval().requires_grad_(False)
    frozen.load_state_dict(model.state_dict())
    frozen = frozen.to(memory_format=torch.channels_last)
    seen = {}

    def see(_module, _inputs, output):
        seen["a"] = output
        if stops:
            raise Reached

    frozen.inception4a.register_forward_hook(see)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    torch.manual_seed(1)
    z = (0.01 * torch.randn(1, 3, 224, 224)).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.05)
    begun = time.perf_counter()
    for _ in range(steps):
        x = F.pad(torch.sigmoid(z), [12] * 4, value=0.5)
        angle, scale = torch.deg2rad(20 * torch.rand(()) - 10), 1 + (torch.randint(0, 11, ()) - 5) / 50
        shift = (torch.randint(-6, 7, (2,)) * 2 / x.shape[2]).float()
        matrix = torch.stack([torch.cos(angle) / scale, -torch.sin(angle) / scale, shift[0], torch.sin(angle) / scale, torch.cos(angle) / scale,
                              shift[1]]).view(1, 2, 3)
        x = F.grid_sample(x, F.affine_grid(matrix, [1, 3, 248, 248], align_corners=False), align_corners=False)
        x = (F.interpolate(x, (224, 224), mode="bilinear", antialias=True) - mean) / deviation
        try:
            frozen(x.contiguous(memory_format=torch.channels_last))
        except Reached:
            pass
        score = seen["a"][0, 5].mean()
        optimizer.zero_grad()
        (-score).backward()
        optimizer.step()
    return (time.perf_counter() - begun) / steps


def by_evoke(folder, k):
    out = folder / f"run{k}"
    subprocess.run([root / "build/release/evoke", "sample", "network", "-q", "--threads", "2", "--set", f"classifier.weights={folder / 'net.pt2'}",
                    "--set", "classifier.image.preset=imagenet", "--set", 'objective.units=["inception4a:5"]', "--set", f"run.steps={steps}",
                    "--set", "generator.kind=pixel", "--set", "transform.kind=lucid", "--out", str(out)], check=True, stdout=subprocess.DEVNULL)
    return json.loads((out / "manifest.json").read_text())["sampling_seconds"] / steps


with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    exported = torch.export.export(model, (torch.rand(2, 3, 224, 224),), dynamic_shapes=({0: torch.export.Dim("N")},))
    torch.export.save(exported, folder / "net.pt2")
    ways = {"lucent": lambda k: by_lucent(), "Python, whole network": lambda k: by_python(False), "Python, to the layer": lambda k: by_python(True),
            "evoke": lambda k: by_evoke(folder, k)}
    times = {way: [] for way in ways}
    for k in range(repetitions):
        for way, measure in ways.items():
            times[way].append(measure(k))
    evoke = median(times["evoke"])
    print("| way | ms a step, median | least | evoke / it |\n|---|---|---|---|")
    for way, found in times.items():
        print(f"| {way} | {1000 * median(found):.1f} | {1000 * min(found):.1f} | {evoke / median(found):.2f} |")
