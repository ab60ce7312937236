"""The fuzzer's seeds: small networks of tests/golden/programs.py and two of our own, without what the reader does not read.

    seeds.py FOLDER      writes FOLDER/corpus_pt2/NAME.pt2, FOLDER/corpus_torchscript/NAME.pt, FOLDER/corpus_safetensors/NAME.safetensors, and
                         FOLDER/crashes_pt2/deflated_bomb.pt2
"""
import json
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Dict, List

import torch
from safetensors.torch import save_file
from torch import nn
from torch.export import Dim

sys.path.insert(0, str(Path(__file__).parent.parent / "golden"))
import programs  # noqa: E402


class Shelf(nn.Module):
    """Weights of many shapes and types, for operators to be tried on."""

    def __init__(self):
        super().__init__()
        for name, shape in {"one": (4,), "square": (4, 4), "cube": (2, 4, 4), "filters": (4, 3, 3, 3), "volume": (1, 2, 2, 3, 3)}.items():
            self.register_buffer(name, torch.rand(shape))
        self.register_buffer("index", torch.tensor([0, 2, 1, 3]))
        self.register_buffer("mask", torch.tensor([True, False, True, True]))

    def forward(self, x):
        rows = x.shape[0]
        y = torch.cat([x, x.abs()], 1)[:, self.index]
        y = y.reshape(rows, 4, -1).unflatten(2, (4, y.shape[2] * y.shape[3] // 4)) * (rows + 1)
        a, b = y.split([1, 3], 1)
        y = torch.where(self.mask, self.square, b)
        return nn.functional.interpolate(y, scale_factor=2.0, mode="bilinear"), (a @ self.square).flatten(1).softmax(-1)


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.Linear(4, 12)

    def forward(self, x):
        with torch.no_grad():
            x = x * 2.0
        q, k, v = self.heads(x.flatten(2)[:, :, :4]).chunk(3, -1)
        return nn.functional.scaled_dot_product_attention(q, k, v)


class Looping(nn.Module):
    """Branches, loops, lists and dictionaries between tensors."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.InstanceNorm2d(3, affine=True)
        self.times: List[int] = [1, 2]
        self.scales: Dict[str, float] = {"a": 0.5, "b": 2.0}

    def forward(self, x):
        found: List[torch.Tensor] = []
        for time in self.times:
            for _ in range(time):
                x = self.norm(self.conv(x)) if x.size(0) > 0 else x
            found.append(x * self.scales["a"])
        if len(found) > 1 and found[0].dim() == 4:
            x = torch.cat(found, 1)
        return nn.functional.interpolate(x, scale_factor=2.0), x.mean((2, 3))


def lean_graph(graph):
    """What is read of a graph; of a node's metadata, only its modules."""
    def node(each):
        stack = each["metadata"].get("nn_module_stack", "")
        inputs = [{"name": one["name"], "arg": {"as_graph": {"graph": lean_graph(one["arg"]["as_graph"]["graph"])}} if "as_graph" in one["arg"] else one["arg"]}
                  for one in each["inputs"]]
        return {"target": each["target"], "inputs": inputs, "outputs": each["outputs"],
                "metadata": {"nn_module_stack": stack} if stack and not stack.startswith("_") else {}}

    return {"inputs": graph["inputs"], "outputs": graph["outputs"], "nodes": [node(each) for each in graph["nodes"]],
            "tensor_values": {name: {"dtype": meta["dtype"], "sizes": meta["sizes"]} for name, meta in graph["tensor_values"].items()}}


def lean(content):
    if "graph_module" in content:
        module = content["graph_module"]
        return {"graph_module": {"graph": lean_graph(module["graph"]), "signature": module["signature"],
                                 "module_call_graph": [{"fqn": "", "signature": {"out_spec": module["module_call_graph"][0]["signature"]["out_spec"]}}]}}
    return {"config": {name: {"path_name": one["path_name"], "use_pickle": one["use_pickle"],
                              "tensor_meta": {key: one["tensor_meta"][key] for key in ("dtype", "sizes", "strides", "storage_offset", "layout")}}
                       for name, one in content["config"].items()}}


def strip(source, target):
    with zipfile.ZipFile(source) as read, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as write:
        for name in read.namelist():
            content = read.read(name)
            if "sample_inputs" in name or "serialization_id" in name:
                continue
            if name.endswith(".json"):
                content = json.dumps(lean(json.loads(content)), separators=(",", ":")).encode()
            write.writestr(zipfile.ZipInfo("p" + name[name.index("/"):], (2000, 1, 1, 0, 0, 0)), content)


def strip_script(source, target):
    """Without compression, and without what says where in Python the code was."""
    with zipfile.ZipFile(source) as read, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as write:
        for name in read.namelist():
            if not name.endswith(".debug_pkl") and "serialization_id" not in name:
                write.writestr(zipfile.ZipInfo("p" + name[name.index("/"):], (2000, 1, 1, 0, 0, 0)), read.read(name))


def bomb(source, target):
    """A weight that is compressed: eight million zeros in eight thousand bytes."""
    with zipfile.ZipFile(source) as read, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as write:
        for name in read.namelist():
            large = name.endswith("weight_0")
            write.writestr(zipfile.ZipInfo(name, (2000, 1, 1, 0, 0, 0)), bytes(1 << 23) if large else read.read(name),
                           compress_type=zipfile.ZIP_DEFLATED if large else zipfile.ZIP_STORED)


def main(root):
    torch.manual_seed(1)
    folder, scripts, weights = root / "corpus_pt2", root / "corpus_torchscript", root / "corpus_safetensors"
    for each in (folder, scripts, weights, root / "crashes_pt2"):
        each.mkdir(parents=True, exist_ok=True)
    x, free = torch.rand(2, 3, 4, 4), ({0: Dim("N")},)
    with tempfile.TemporaryDirectory() as scratch:
        def export(name, model, inputs=(x,), shapes=free, decomposed=False):
            program = torch.export.export(model.eval(), inputs, dynamic_shapes=shapes)
            torch.export.save(program.run_decompositions() if decomposed else program, f"{scratch}/{name}.pt2")
            strip(f"{scratch}/{name}.pt2", folder / f"{name}.pt2")

        export("small", programs.Small())
        export("decomposed", programs.Small(), decomposed=True)
        export("pair", programs.Pair())
        export("two", programs.Two(), (x, torch.rand(2, 5)), ({0: Dim("N")}, {0: Dim("N")}))
        export("writing", programs.Writing())
        export("fixed", programs.Small(), shapes=None)
        export("shelf", Shelf())
        export("attending", Attending())
        export("attending_decomposed", Attending(), decomposed=True)

        def script(name, module):
            module.save(f"{scratch}/{name}.pt")
            strip_script(f"{scratch}/{name}.pt", scripts / f"{name}.pt")

        script("script", torch.jit.script(programs.Small().eval()))
        script("trace", torch.jit.trace(programs.Small().eval(), x))
        script("looping", torch.jit.script(Looping().eval()))
        script("attending", torch.jit.script(Attending().eval()))
    bomb(folder / "small.pt2", root / "crashes_pt2" / "deflated_bomb.pt2")
    tensors = {"conv.weight": torch.rand(2, 3, 1, 1), "index": torch.arange(3), "half": torch.rand(2).half(), "none": torch.zeros(0, 2),
               "truth": torch.tensor([True, False])}
    save_file(tensors, weights / "types.safetensors")
    save_file({"a": torch.rand(2)}, weights / "weights.safetensors",
              metadata={"evoke.format": "weights", "evoke.version": "1", "evoke.kind": "vae", "evoke.options": "code = 2"})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
