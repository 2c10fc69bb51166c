"""Write the PyTorch files of this folder and, beside each, the arrays they hold.

Run where PyTorch is installed (made with torch 2.13.0, numpy 2.4.6):

    python tests/golden/torch_files/make.py
"""

import argparse
import collections
import pathlib

import numpy as np
import torch

HERE = pathlib.Path(__file__).parent


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(3, 4, generator=generator)
    shared = torch.arange(10, dtype=torch.float32)
    return collections.OrderedDict(
        {
            "float32": base,
            "float64": base.double() / 3,
            "float16": base.half(),
            "bfloat16": base.bfloat16(),
            "int64": torch.tensor([-(2**62), -1, 0, 2**62]),
            "uint8": torch.tensor([0, 127, 255], dtype=torch.uint8),
            "bool": torch.tensor([[True, False], [False, True]]),
            "complex64": torch.complex(base[0], base[1]),
            "transposed": torch.randn(2, 5, generator=generator).t(),
            "first_half": shared[:5],
            "every_second": shared[1::2],
            "expanded": torch.tensor([[1.5], [2.5]]).expand(2, 3),
            "parameter": torch.nn.Parameter(base[:2] + 1),
            "scalar": torch.tensor(7),
            "empty": torch.empty(0, 3),
        }
    )


def checkpoint() -> dict:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, bias=False), torch.nn.BatchNorm2d(4)
    )
    with torch.no_grad():
        for number, weight in enumerate(model.parameters()):
            weight.copy_(torch.linspace(-1, 1, weight.numel()).view_as(weight) + number)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(2, 3, 5, 5)).square().sum().backward()
    optimizer.step()
    parallel = {f"module.{name}": value for name, value in model.state_dict().items()}
    return {
        "epoch": 3,
        "arch": "tiny",
        "best_accuracy": torch.tensor(0.5),
        "args": argparse.Namespace(lr=0.1, device=torch.device("cpu")),
        "numpy": np.float64(0.25),
        "history": collections.defaultdict(list, {"loss": [1.0, 0.5]}),
        "state_dict": collections.OrderedDict(parallel),
        "optimizer": optimizer.state_dict(),
    }


def arrays(values: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    found = {}
    for name, value in values.items():
        value = value.detach().contiguous()
        if value.dtype == torch.bfloat16:
            # NumPy archives cannot name bfloat16: its bits, as the name says.
            name, value = f"{name}_bits", value.view(torch.int16)
        found[name] = value.numpy()
    return found


def main() -> None:
    plain, nested = tensors(), checkpoint()
    for name, zipped in (("zip", True), ("legacy", False)):
        torch.save(
            plain, HERE / f"plain_{name}.pth", _use_new_zipfile_serialization=zipped
        )
        torch.save(
            nested,
            HERE / f"checkpoint_{name}.pth",
            _use_new_zipfile_serialization=zipped,
        )
    # Tensors of an unsigned type wider than a byte, and protocol 4.
    late = {
        "uint16": torch.tensor([0, 40000], dtype=torch.uint16),
        "float8_as_float32": torch.tensor([0.5, -2.0]).to(torch.float8_e4m3fn),
        "float32": torch.arange(3.0),
    }
    torch.save(late, HERE / "late_zip.pth", pickle_protocol=4)
    late["float8_as_float32"] = late["float8_as_float32"].float()
    torch.save(torch.nn.Linear(2, 1), HERE / "whole_model_zip.pth")
    np.savez_compressed(HERE / "plain.npz", **arrays(plain))
    weights = {
        name.removeprefix("module."): value
        for name, value in nested["state_dict"].items()
    }
    np.savez_compressed(HERE / "checkpoint.npz", **arrays(weights))
    np.savez_compressed(HERE / "late.npz", **arrays(late))


if __name__ == "__main__":
    main()
