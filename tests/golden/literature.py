"""Writes, for each network of the literature, what Python makes of it: FOLDER/KIND.safetensors (the state dict, as
safetensors.torch.save_file(model.state_dict()) writes it) and FOLDER/KIND.golden.safetensors (input, output, taps, input gradient).

    .venv/bin/python tests/golden/literature.py FOLDER [KIND…]

Weights and statistics are random and seeded. torchvision's models are its own; CaffeNet and the recurrent network are written here.
tests/classifiers/literature_golden.cpp runs this and compares.
"""
import pathlib
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision
from safetensors.torch import save_file


class CaffeNet(nn.Module):
    """BVLC's reference CaffeNet: its deploy.prototxt, layer by layer."""

    def __init__(self, classes, side):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 11, stride=4)
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 384, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1, groups=2)
        self.fc6 = nn.Linear(256 * side * side, 4096)
        self.fc7 = nn.Linear(4096, 4096)
        self.fc8 = nn.Linear(4096, classes)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)

    def forward(self, x):
        x = self.norm(self.pool(F.relu(self.conv1(x))))
        x = self.norm(self.pool(F.relu(self.conv2(x))))
        x = F.relu(self.conv3(x))
        x = F.relu(self.conv4(x))
        x = self.pool(F.relu(self.conv5(x)))
        x = F.relu(self.fc6(x.flatten(1)))
        return self.fc8(F.relu(self.fc7(x)))


class Recurrent(nn.Module):
    """One layer of the recurrent network; without gates it only drives."""

    def __init__(self, before, here, kernel, stride, gated, back):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(here, before, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(here))
        self.stride = stride
        for gate in ("ch", "hh", "hc", "cc") if gated else ():
            setattr(self, "gate_" + gate, nn.Conv2d(here, here, 3, padding=1, bias=False))
        if back:
            self.feedback = nn.Conv2d(back, here, 1, bias=False)

    def drive(self, x, back):
        x = F.conv2d(x, self.weight, self.bias, stride=self.stride, padding=self.weight.shape[2] // 2)
        if back is not None:
            x = x + self.feedback(F.interpolate(back, size=x.shape[2:], mode="bilinear", align_corners=False))
        return F.elu(x)

    def forward(self, x, h, c):
        if h is None:
            h = c = torch.zeros_like(x)
        s = torch.sigmoid
        return (F.elu((1 - s(self.gate_ch(c))) * x + (1 - s(self.gate_hh(h))) * h),
                F.elu((1 - s(self.gate_hc(h))) * x + (1 - s(self.gate_cc(c))) * c))


class TNN(nn.Module):
    """Ten convolutional layers, the upper seven reciprocally gated, with long-range feedback: time is the outer loop, states are kept."""

    width = (1, 1, 2, 2, 4, 4, 4, 8, 8, 8)
    back = {5: 8, 6: 9, 7: 10}

    def __init__(self, classes, filters, steps):
        super().__init__()
        self.steps = steps
        width = [3] + [w * filters for w in self.width]
        for i in range(1, 11):
            self.add_module(f"conv{i}", Recurrent(width[i - 1], width[i], 7 if i == 1 else 3, 2 if i == 1 else 1, i >= 4,
                                                  width[self.back[i]] if i in self.back else 0))
        self.logits = nn.Linear(width[10], classes)

    def forward(self, image):
        h, c, self.seen = {}, {}, {}
        for t in range(1, self.steps + 1):
            x, before = image, dict(h)
            for i in range(1, 11):
                layer = getattr(self, f"conv{i}")
                x = layer.drive(x, before.get(self.back.get(i)))
                if i >= 4:
                    h[i], c[i] = layer(x, before.get(i), c.get(i))
                    x = h[i]
                self.seen[f"conv{i}.t{t}"] = x
                if i in (2, 4, 7):
                    x = F.max_pool2d(x, 2)
        return self.logits(x.mean((2, 3)))


def randomized(model, generator):
    """He-normal weights, small biases, statistics of batch norm that matter."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("num_batches_tracked"):
                value.fill_(7)
            elif value.dim() > 1:
                value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=generator)
            elif name.endswith("running_var") or (name.endswith("weight") and value.dim() == 1):
                value.uniform_(0.5, 1.5, generator=generator)
            else:
                value.normal_(0, 0.1, generator=generator)
    return model.eval()


models = torchvision.models
zoo = {  # model, side of the image, taps
    "alexnet": (lambda: models.alexnet(num_classes=10), 64, ["features.3", "features.4", "classifier.4"]),
    "caffenet": (lambda: CaffeNet(10, 2), 95, ["conv2", "conv5", "fc6"]),
    "vgg16": (lambda: models.vgg16(num_classes=10, init_weights=False), 64, ["features.3", "features.28", "classifier.3"]),
    "vgg19": (lambda: models.vgg19(num_classes=10, init_weights=False), 64, ["features.3", "features.34", "classifier.3"]),
    "googlenet": (lambda: models.googlenet(num_classes=10, transform_input=False, aux_logits=True, init_weights=False), 64,
                  ["conv1.conv", "conv1.bn", "conv1", "inception3a.branch2.0", "inception3a.branch3", "inception3a.branch4.0", "inception4a"]),
    "resnet18": (lambda: models.resnet18(num_classes=10), 64,
                 ["layer1.0.conv1", "layer1.0.bn1", "layer1.0", "layer2.0.downsample.1", "layer2.0.relu", "layer3"]),
    "resnet50": (lambda: models.resnet50(num_classes=10), 64, ["layer1.0.conv3", "layer1.0.bn3", "layer1.0.relu", "layer2", "layer4.0"]),
    "tnn": (lambda: TNN(10, 4, 4), 40, ["conv1.t2", "conv4.t1", "conv5.t3", "conv7.t2", "conv10.t4"]),
}

folder = pathlib.Path(sys.argv[1])
torch.manual_seed(1)
for kind in sys.argv[2:] or zoo:
    make, side, taps = zoo[kind]
    generator = torch.Generator().manual_seed(sum(map(ord, kind)))
    with torch.device("meta"):
        model = make()
    model = randomized(model.to_empty(device="cpu"), generator)
    save_file(model.state_dict(), folder / f"{kind}.safetensors")
    kept = {}

    def keep(name):
        return lambda module, inputs, output: kept.__setitem__(name, output.detach().clone())

    for name, module in model.named_modules():
        if name in taps and kind != "tnn":
            module.register_forward_hook(keep(name))
    x = torch.rand((2, 3, side, side), generator=generator)
    if kind == "caffenet":
        x = x * 255 - 115
    x.requires_grad_()
    output = model(x)
    if kind == "tnn":
        kept = {name: model.seen[name].detach() for name in taps}
    assert set(kept) == set(taps), set(taps) - set(kept)
    factor = torch.cos(torch.arange(output.numel()) * 0.7).reshape(output.shape)
    (output * factor).sum().backward()
    save_file({"input": x.detach(), "output": output.detach(), "gradient": x.grad, **{"tap/" + name: v for name, v in kept.items()}},
              folder / f"{kind}.golden.safetensors")
