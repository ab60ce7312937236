"""Networks of torchvision, timm and our own, exported with seeded random weights, with what Python makes of them.

    programs.py FOLDER NAME…      writes FOLDER/NAME.pt2 and FOLDER/NAME.safetensors: "input", "output", "tap:LAYER" (what a forward hook sees,
                                  cloned), "gradient:LAYER" (of the sum of its squares, at the input)
    programs.py FOLDER --bench    writes ResNet-18 at 224 px and the smallest net with their state dicts, for tests/benchmarks
    programs.py FOLDER --bad      writes the networks that evoke refuses, and the odd ones that it takes
    programs.py FOLDER --codec    writes two autoencoders as pairs of programs: "dense_encoder", "dense_decoder" of codes [N,5] and images
                                  16 × 24, "spatial_encoder", "spatial_decoder" of codes [N,4,H/8,W/8] and images of any size
    programs.py FOLDER --rectifiers  writes rectifiers.pt2, .pt (TorchScript) and .safetensors: "input", "output", "plain" and "redirected", the gradient of the
                                  output's sum at the input as ever, and with the slopes that Lucid gives to ReLUs which let nothing through
"""
import sys
import warnings
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.export import Dim

warnings.filterwarnings("ignore")
torch.set_num_threads(2)


class Decoder(nn.Module):
    """A U-Net's way up, from a code."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(16, 32 * 4 * 4)
        self.down = nn.Conv2d(32, 48, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(48, 32, 4, stride=2, padding=1)
        self.join = nn.Sequential(nn.Conv2d(64, 24, 3, padding=1), nn.GroupNorm(4, 24), nn.SiLU())
        self.wide = nn.Upsample(scale_factor=4, mode="bilinear", align_corners=False)
        self.image = nn.Conv2d(24, 3, 3, padding=1)

    def forward(self, z):
        a = self.dense(z).view(-1, 32, 4, 4)
        b = self.up(torch.relu(self.down(a)))
        return torch.tanh(self.image(self.wide(self.join(torch.cat([a, b], 1)))))


def torchvision_net(name, **extra):
    import torchvision

    return lambda: torchvision.models.get_model(name, weights=None, **extra)


def timm_net(name, **extra):
    def make():
        import timm

        return timm.create_model(name, **extra)

    return make


def alexnet_head():
    """Its first layer alone would do; the rest shows that nothing above the tap is computed."""
    return torchvision_net("alexnet")().features[:6]


# name -> (how it is made, side, inner layers)
NETS = {
    "alexnet": (torchvision_net("alexnet"), 96, ["features.0", "features.1", "features.8", "classifier.4"]),
    "alexnet_head": (alexnet_head, 63, ["0", "2"]),
    "vgg19": (torchvision_net("vgg19", init_weights=False), 48, ["features.0", "features.1", "features.34", "classifier.0"]),
    "googlenet": (torchvision_net("googlenet", aux_logits=False, init_weights=False), 96,
                  ["conv1.bn", "inception4a", "inception4a.branch1", "inception5b.branch3.1.conv"]),
    "inception_v3": (torchvision_net("inception_v3", aux_logits=False, init_weights=False), 96, ["Mixed_5b", "Mixed_6c.branch7x7dbl_3.bn", "Mixed_7c"]),
    "resnet18": (torchvision_net("resnet18"), 80, ["bn1", "layer1.0.relu", "layer1.0.relu#1", "layer1.0.bn2", "layer3"]),
    "resnet50": (torchvision_net("resnet50"), 64, ["relu", "layer2.0.bn3", "layer4.2.conv2"]),
    "densenet121": (torchvision_net("densenet121"), 64, ["features.denseblock2.denselayer3", "features.norm5", "features.transition1.conv"]),
    "convnext_tiny": (torchvision_net("convnext_tiny"), 64, ["features.1.0.block.0", "features.5.3", "features.7"]),
    "swin_t": (torchvision_net("swin_t"), 64, ["features.1.1.attn", "features.3.0.mlp.0", "features.5", "norm"]),
    "vit_b_16": (torchvision_net("vit_b_16", image_size=64), 64,
                 ["encoder.layers.encoder_layer_3.mlp", "encoder.layers.encoder_layer_7", "encoder.ln"]),
    "mobilenet_v3_small": (torchvision_net("mobilenet_v3_small"), 64, ["features.0.0", "features.4.block.2", "features.12"]),
    "efficientnet_b0": (torchvision_net("efficientnet_b0"), 64, ["features.2.0.block.1", "features.5", "avgpool"]),
    "shufflenet_v2_x1_0": (torchvision_net("shufflenet_v2_x1_0"), 64, ["stage2.1", "stage4.0.branch2.0"]),
    "nasnetalarge": (timm_net("nasnetalarge", num_classes=10), 64, ["cell_0", "cell_6.comb_iter_0_left"]),
    "clip_image_tower": (timm_net("vit_tiny_patch16_224", num_classes=64, img_size=64, pre_norm=True, act_layer="quick_gelu"), 64,
                         ["blocks.3.mlp.fc1", "blocks.7", "norm"]),
    "unet_decoder": (Decoder, 0, ["dense", "up", "join", "image"]),
}


SCRIPTED = {"alexnet", "resnet18", "vit_b_16", "densenet121", "mobilenet_v3_small"}  # as TorchScript too


def randomize(model, seed):
    """Batch norm with statistics of 0 and 1 would hide a mistake, and so would a head of zeros."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            if module.affine:
                module.weight.data.uniform_(0.7, 1.3, generator=generator)
        if isinstance(module, nn.Linear) and not module.weight.any():
            module.weight.data.normal_(0, 0.05, generator=generator)
    # For weights that take gradients LibTorch picks another matrix product in places, which rounds otherwise; evoke's take none.
    model.requires_grad_(False)


def hooked(model, layers, x):
    """The output, and what hooks see; the k-th call where a layer says so, the last otherwise."""
    calls, handles = {}, []
    for layer in {name.partition("#")[0] for name in layers}:
        def see(_module, _inputs, output, layer=layer):
            calls.setdefault(layer, []).append(output.clone())

        handles.append(model.get_submodule(layer).register_forward_hook(see))
    output = model(x)
    for handle in handles:
        handle.remove()
    taps = {}
    for name in layers:
        layer, _, call = name.partition("#")
        taps[name] = calls[layer][int(call) - 1 if call else -1]
    return output, taps


def golden(folder, name):
    make, side, layers = NETS[name]
    torch.manual_seed(3)
    model = make().eval()
    randomize(model, 4)
    generator = torch.Generator().manual_seed(5)
    draw = (lambda n: torch.randn(n, 16, generator=generator)) if side == 0 else (lambda n: torch.rand(n, 3, side, side, generator=generator))
    exported = torch.export.export(model, (draw(2),), dynamic_shapes=({0: Dim("N")},))
    torch.export.save(exported, folder / f"{name}.pt2")
    if name in SCRIPTED:
        torch.jit.script(model).save(str(folder / f"{name}_script.pt"))
        torch.jit.trace(model, draw(2).requires_grad_(), check_trace=False).save(str(folder / f"{name}_trace.pt"))
    x = draw(3).requires_grad_()
    output, taps = hooked(model, layers, x)
    found = {"input": x.detach(), "output": output.detach()}
    for layer, tap in taps.items():
        found["tap:" + layer] = tap.detach()
        found["gradient:" + layer] = torch.autograd.grad((tap * tap).sum(), x, retain_graph=True)[0]
    found["gradient:output"] = torch.autograd.grad((output * output).sum(), x)[0]
    if name == "alexnet_head":
        found["filters"] = model[0].weight
    save_file({key: value.clone().contiguous() for key, value in found.items()}, folder / f"{name}.safetensors")


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.relu, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Linear(4, 5)

    def forward(self, x):
        return self.head(self.relu(self.norm(self.conv(x))).mean((2, 3)))


class Pair(Small):
    def forward(self, x):
        y = self.relu(self.norm(self.conv(x)))
        with torch.no_grad():
            m = y.mean((2, 3), keepdim=True)
        a, b = torch.chunk(y - m, 2, 1)
        return {"first": self.relu(a), "second": (b * 2.0).masked_fill(b > 0, float("-inf")).clamp(min=-1)}


class Branching(Small):
    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda v: v.sin(), lambda v: v.cos(), (x,))


class Counting(Small):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen.add_(1)
        return super().forward(x) + self.seen


class Two(Small):
    def forward(self, x, scale):
        return super().forward(x) * scale


class Writing(Small):
    def forward(self, x):
        return super().forward(x.mul_(0.5))


class Random(Small):
    def forward(self, x):
        return super().forward(x + torch.nn.functional.dropout(x, 0.5, training=True))


class Nothing(nn.Module):
    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x):
        return torch.log(self.relu(x) - 1)


class Restoring(nn.Module):
    """Restores itself by code of its own, which runs while the file is read."""

    def __init__(self):
        super().__init__()
        self.factor = 2.0

    def forward(self, x):
        return x * self.factor

    @torch.jit.export
    def __getstate__(self):
        return self.factor, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[float, bool]):
        self.factor = state[0]
        self.training = state[1]


class Restorer(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.conv = Restoring(), nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(self.first(x))


class Summing(nn.Module):
    """One sum of so many numbers that threads share it."""

    def forward(self, x):
        return x.mul(2).sum((1, 2, 3))[:, None]


class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(9, 4)

    def forward(self, x):
        return self.table(x)


def bad(folder):
    torch.manual_seed(1)
    x, free = torch.rand(2, 3, 8, 8), ({0: Dim("N")},)

    def export(name, model, inputs=(x,), shapes=free):
        torch.export.save(torch.export.export(model, inputs, dynamic_shapes=shapes), folder / f"{name}.pt2")

    small = Small().eval()
    export("small", small)
    export("training", Small().train())
    export("pair", Pair().eval())
    export("branching", Branching().eval())
    export("counting", Counting().eval())
    export("two", Two().eval(), (x, torch.rand(2, 5)), ({0: Dim("N")}, {0: Dim("N")}))
    export("writing", Writing().eval())
    export("random", Random().eval())
    export("not_a_number", Nothing().eval())
    export("whole", Whole().eval(), (torch.ones(2, 3, dtype=torch.long),))
    export("fixed", small, (x,), None)
    export("summing", Summing().eval(), (torch.rand(2, 3, 128, 128),))
    export("half", Small().eval().half(), (x.half(),))
    export("double", Small().eval().double(), (x.double(),))
    export("gray", nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()).eval(), (x[:, :1],))
    export("free_size", small, shapes=({0: Dim("N"), 2: Dim("H", min=4, max=64), 3: Dim("W", min=4, max=64)},))
    torch.jit.script(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()).eval()).save(str(folder / "gray.pt"))
    torch.jit.script(small).save(str(folder / "script.pt"))
    torch.jit.script(Restorer().eval()).save(str(folder / "restoring.pt"))
    torch.jit.trace(small, x).save(str(folder / "trace.pt"))
    torch.jit.freeze(torch.jit.script(small)).save(str(folder / "frozen.pt"))
    torch.jit.trace(Random().eval(), x, check_trace=False).save(str(folder / "random_trace.pt"))
    torch.save(small.state_dict(), folder / "pickled.pth")
    torch.save(small, folder / "pickled_model.pth")
    program = torch.export.load(folder / "small.pt2").module()
    y = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(2)).requires_grad_()
    output = small(y)
    found = {"input": y.detach(), "output": output.detach(), "gradient": torch.autograd.grad(output.sum(), y)[0]}
    found["tap:relu"] = small.relu(small.norm(small.conv(y))).detach()
    found["program"] = program(y.detach()).detach()
    pair = Pair().eval()
    pair.load_state_dict(torch.export.load(folder / "pair.pt2").state_dict)
    both = pair(y)
    found["pair:first"], found["pair:second"] = both["first"].detach(), both["second"].detach()
    found["pair:gradient"] = torch.autograd.grad((both["first"] ** 2).sum() + (both["second"] ** 2).sum(), y)[0]
    writing = Writing().eval()
    writing.load_state_dict(torch.export.load(folder / "writing.pt2").state_dict)
    found["writing"] = writing(y.detach().clone()).detach()
    save_file({key: value.clone().contiguous() for key, value in found.items()}, folder / "small.check.safetensors",
              metadata={"threads": str(torch.get_num_threads())})


def bench(folder):
    torch.manual_seed(1)
    for name, model, side in [("resnet18", torchvision_net("resnet18")(), 224), ("small", Small(), 8)]:
        model.eval()
        x = torch.rand(2, 3, side, side)
        torch.export.save(torch.export.export(model, (x,), dynamic_shapes=({0: Dim("N")},)), folder / f"{name}.pt2")
        save_file({key: value.contiguous() for key, value in model.state_dict().items() if value.dtype == torch.float32}, folder / f"{name}.safetensors")


def codec(folder):
    torch.manual_seed(6)
    pairs = {
        "dense": (nn.Sequential(nn.Conv2d(3, 4, 8, stride=8), nn.Flatten(), nn.Linear(24, 5)),
                  nn.Sequential(nn.Linear(5, 24), nn.Unflatten(1, (4, 2, 3)), nn.ConvTranspose2d(4, 3, 8, stride=8), nn.Sigmoid())),
        "spatial": (nn.Sequential(nn.Conv2d(3, 4, 8, stride=8)), nn.Sequential(nn.ConvTranspose2d(4, 3, 8, stride=8), nn.Sigmoid())),
    }
    rows, height, width = Dim("N"), Dim("H"), Dim("W")
    image, small = torch.rand(2, 3, 16, 24), torch.randn(2, 4, 2, 3)
    free = {"dense": ({0: rows}, {0: rows}), "spatial": ({0: rows, 2: 8 * height, 3: 8 * width}, {0: rows, 2: height, 3: width})}
    for name, (encoder, decoder) in pairs.items():
        code = torch.randn(2, 5) if name == "dense" else small
        for part, model, x, shapes in [("encoder", encoder, image, free[name][0]), ("decoder", decoder, code, free[name][1])]:
            torch.export.save(torch.export.export(model.eval(), (x,), dynamic_shapes=(shapes,)), folder / f"{name}_{part}.pt2")


class Rectifiers(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 6, 3), nn.Conv2d(6, 4, 3)
        self.relu, self.relu6, self.tanh = nn.ReLU(inplace=True), nn.ReLU6(), nn.Hardtanh(-0.5, 0.7, inplace=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.relu6(self.two(self.relu(self.one(x))))
        return self.head(self.tanh(self.three(x)).mean((2, 3)))


def rectifiers(folder):
    torch.manual_seed(5)
    model = Rectifiers().eval()
    # Rows of an input: an ordinary one; one below the first ReLU; a bright one; one above the second's 6.
    x = torch.rand(4, 3, 12, 12)
    for layer in (model.one, model.two, model.three):
        nn.init.normal_(layer.weight, 0.02, 0.1)
    model.one.weight.data.abs_()
    x[1] -= 9.0
    x[2] += 40.0
    x[3] = 4.0 * x[3] + 2.0
    exported = torch.export.export(model, (x,), dynamic_shapes=({0: Dim("N", min=1, max=1000)},))
    torch.export.save(exported, folder / "rectifiers.pt2")
    torch.jit.script(model).save(folder / "rectifiers.pt")

    class Redirected(torch.autograd.Function):
        """Of a loss that is minimized, as Lucid has it."""

        @staticmethod
        def forward(context, x, low, high):
            context.save_for_backward(x)
            context.ends = low, high
            return torch.clamp(x, low, high)

        @staticmethod
        def backward(context, grad):
            (x,), (low, high) = context.saved_tensors, context.ends
            relu_grad = torch.where((x <= low) | (x >= high), 0.0, grad)
            further = ((x <= low) & (grad > 0)) | ((x >= high) & (grad < 0))
            result = relu_grad.clone()
            for row in range(len(x)):
                if relu_grad[row].norm() == 0:
                    result[row] = torch.where(further[row], 0.0, grad[row])
            return result, None, None

    def through(x, apply):
        y = apply(model.two(apply(model.one(x), 0.0, float("inf"))), 0.0, 6.0)
        return model.head(apply(model.three(y), -0.5, 0.7).mean((2, 3)))

    found = {"input": x}
    point = x.clone().requires_grad_()
    found["output"] = through(point, torch.clamp)
    found["plain"] = torch.autograd.grad(found["output"].sum(), point)[0]
    found["redirected"] = -torch.autograd.grad(-through(point, Redirected.apply).sum(), point)[0]
    save_file({key: value.detach().clone().contiguous() for key, value in found.items()}, folder / "rectifiers.safetensors")


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    if sys.argv[2] == "--bad":
        bad(target)
    elif sys.argv[2] == "--rectifiers":
        rectifiers(target)
    elif sys.argv[2] == "--codec":
        codec(target)
    elif sys.argv[2] == "--bench":
        bench(target)
    else:
        for net in sys.argv[2:]:
            golden(target, net)
