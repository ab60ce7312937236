#!/usr/bin/env python3
"""Exports a network for evoke: NET.pt2, NET.toml (how it wants its images), NET.labels.txt and NET.check.safetensors (an input with what
Python made of it and the number of threads it took, which `evoke inspect NET.pt2 --check` compares to the last bit).

    export_network.py torchvision:resnet50 --weights DEFAULT --out resnet50.pt2
    export_network.py timm:vit_small_patch16_224 --weights pretrained
    export_network.py my_package.my_module:make_model --size 96 --preset unit --out mine.pt2      # a function or class without arguments
    export_network.py torchvision:resnet50 --state-dict resnet50.safetensors                      # for the built-in nets
    export_network.py my_package.my_module:make_decoder --code 16 28 28 --any-size 1 --out decoder.pt2   # a decoder, from a code [N,16,H,W]
    export_network.py my_package.my_module:make_encoder --size 224 --any-size 8 --out encoder.pt2        # its encoder: sizes divisible by 8

Three lines do what is needed and no more:

    exported = torch.export.export(model.eval(), (torch.rand(2, 3, 224, 224),), dynamic_shapes=({0: torch.export.Dim("N")},))
    torch.export.save(exported, "net.pt2")
    # then: evoke inspect net.pt2 --set image.preset=imagenet
"""
import argparse
import importlib
import sys
from pathlib import Path

import torch


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help="torchvision:NAME, timm:NAME, or MODULE:FUNCTION of your own")
    parser.add_argument("--weights", default="", help="torchvision: an enum's name such as DEFAULT; timm: 'pretrained'; else a file of a state dict "
                                                        "(safetensors, or .pth read with weights_only); empty: random, by --seed")
    parser.add_argument("--out", default="", help="default: NAME.pt2")
    parser.add_argument("--size", type=int, nargs="+", default=[], help="pixels: one number, or height and width; default: the model's own, else 224")
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--code", type=int, nargs="+", default=[], help="the network is a decoder, and this is the shape of a code: D, or C H W")
    parser.add_argument("--any-size", type=int, default=0, help="the network is convolutional throughout: height and width are free, multiples of this")
    parser.add_argument("--preset", default="", choices=["", "unit", "imagenet", "caffe", "inception"],
                        help="default: what the weights say, else imagenet for torchvision and timm, unit for your own")
    parser.add_argument("--labels", default="", help="a text file, one label a line")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state-dict", default="", help="write the weights alone, as safetensors, and no program")
    return parser.parse_args()


def build(options):
    """The model, its image size, mean, deviation and labels, as far as its source knows them."""
    source, _, name = options.network.partition(":")
    if not name:
        sys.exit(f"export_network: found '{options.network}', expected torchvision:NAME, timm:NAME or MODULE:FUNCTION")
    file = Path(options.weights) if options.weights and Path(options.weights).exists() else None
    ours = source not in ("torchvision", "timm")
    if options.weights and not file and (ours or source == "timm" and options.weights != "pretrained"):
        sys.exit(f"export_network: --weights: found no file '{options.weights}'")
    try:
        model, size, normal, labels = make(source, name, options, file)
    except Exception as error:  # no such package, network or weights, or no connection to fetch them by
        if ours:
            raise
        lines = str(error).splitlines() or [type(error).__name__]
        hint = "; weights that lie in a file: --weights FILE" if options.weights and not file else ""
        sys.exit(f"export_network: {source} does not make '{name}'{' with weights ' + options.weights if options.weights else ''}: {lines[0]}{hint}")
    if file:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(file)
        else:
            state = torch.load(file, weights_only=True)
        model.load_state_dict(state)
    if options.size:
        size = tuple(options.size) if len(options.size) == 2 else (options.size[0],) * 2
    if options.labels:
        labels = Path(options.labels).read_text().splitlines()
    return model.eval(), size or (224, 224), options.preset or normal, labels


def make(source, name, options, file):
    """The model, without the weights of a file, and what build() says of it."""
    torch.manual_seed(options.seed)
    size, normal, labels = None, None, []
    if source == "torchvision":
        import torchvision

        extra = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") and not options.weights else {}
        weights = None
        if options.weights and not file:
            weights = torchvision.models.get_model_weights(name)[options.weights]
            labels = list(weights.meta.get("categories", []))
            size = (weights.transforms().crop_size[0],) * 2
        model = torchvision.models.get_model(name, weights=weights, **extra)
        size = size or ((299, 299) if name == "inception_v3" else (224, 224))
        normal = "imagenet"
    elif source == "timm":
        import timm

        model = timm.create_model(name, pretrained=options.weights == "pretrained")
        config = model.pretrained_cfg
        size = tuple(config.get("input_size", (3, 224, 224))[1:])
        normal = (list(config.get("mean", ())), list(config.get("std", ())))
        labels = list(config.get("label_names") or [])
    else:
        sys.path.insert(0, ".")
        model = getattr(importlib.import_module(source), name)()
        normal = "unit"
    return model, size, normal, labels


def first_tensor(output):
    leaves = [leaf for leaf in torch.utils._pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor)]
    if not leaves:
        sys.exit("export_network: the model returns no tensor; wrap it in a module that does")
    return leaves[-1]


def main():
    options = arguments()
    model, size, normal, labels = build(options)
    from safetensors.torch import save_file

    if options.state_dict:
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, options.state_dict)
        print(options.state_dict)
        return
    out = Path(options.out or options.network.partition(":")[2] + ".pt2")
    x = torch.randn(2, *options.code) if options.code else torch.rand(2, options.channels, *size)
    free = {0: torch.export.Dim("N")}
    if options.any_size:
        if x.dim() != 4:
            sys.exit(f"export_network: found --any-size for a code of {len(options.code)} numbers, expected --code C H W")
        height, width = torch.export.Dim("H"), torch.export.Dim("W")
        free |= {2: height, 3: width} if options.any_size == 1 else {2: options.any_size * height, 3: options.any_size * width}
    try:
        exported = torch.export.export(model, (x,), dynamic_shapes=(free,))
    except Exception as error:  # some networks fix their batch size
        if options.any_size:
            sys.exit(f"export_network: not with free sizes ({str(error).splitlines()[0]}); leave --any-size out")
        print(f"export_network: not with a free batch size ({str(error).splitlines()[0]}); exporting for one image at a time", file=sys.stderr)
        x = x[:1]
        try:
            exported = torch.export.export(model, (x,))
        except Exception as second:
            sys.exit(f"export_network: torch.export refuses this network ({str(second).splitlines()[0]}); export a part without control flow on data, "
                     "or torch.jit.script(model).save(…), which evoke reads too")
    torch.export.save(exported, out)

    # What is seen here, for evoke to compare. Weights that take gradients would make LibTorch round otherwise in places.
    model.requires_grad_(False)
    x = x.clone().requires_grad_()
    y = first_tensor(model(x))
    gradient, = torch.autograd.grad(y.sum(), x)
    check = out.with_suffix(".check.safetensors")
    save_file({"input": x.detach(), "output": y.detach().contiguous(), "gradient": gradient.contiguous()}, check,
              metadata={"threads": str(torch.get_num_threads())})  # the last bits depend on how many share a sum

    lines = ["[image]"]
    if isinstance(normal, str):
        lines.append(f'preset = "{normal}"')
    else:
        lines += [f"mean = {normal[0]}", f"deviation = {normal[1]}"]
    if labels:
        out.with_suffix(".labels.txt").write_text("\n".join(labels) + "\n")
        lines.append(f'labels_file = "{out.with_suffix(".labels.txt").name}"')
    out.with_suffix(".toml").write_text("\n".join(lines) + "\n")
    print(f"{out}, {out.with_suffix('.toml')}, {check}")


if __name__ == "__main__":
    main()
