"""The fuzzer's seeds: small networks of tests/golden/programs.py and two of our own, without what the reader does not read.

    seeds.py FOLDER      writes FOLDER/NAME.pt2
"""
import json
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
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


def lean(node):
    """Only the modules of a node's metadata are read."""
    if isinstance(node, dict):
        if "nn_module_stack" in node:
            return {"nn_module_stack": node["nn_module_stack"]}
        if "stack_trace" in node or "torch_fn" in node:
            return {}
        return {key: lean(value) for key, value in node.items() if key not in ("requires_grad", "device", "is_hop_single_tensor_return", "kind")
                or "use_pickle" in node}
    return [lean(value) for value in node] if isinstance(node, list) else node


def strip(source, target):
    with zipfile.ZipFile(source) as read, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as write:
        for name in read.namelist():
            content = read.read(name)
            if "sample_inputs" in name or "serialization_id" in name:
                continue
            if name.endswith(".json"):
                content = json.dumps(lean(json.loads(content)), separators=(",", ":")).encode()
            write.writestr(zipfile.ZipInfo("p" + name[name.index("/"):], (2000, 1, 1, 0, 0, 0)), content)


def main(folder):
    torch.manual_seed(1)
    folder.mkdir(parents=True, exist_ok=True)
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


if __name__ == "__main__":
    main(Path(sys.argv[1]))
