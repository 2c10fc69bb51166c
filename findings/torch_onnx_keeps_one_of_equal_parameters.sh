#!/bin/sh
# PyTorch's ONNX exporter keeps one of several parameters that have equal values.
#
# The names of the others are nowhere in the file: a norm that still has its first values
# gives its arrays to every norm of its size, and to biases that are zeros. So names and
# counts of a file's arrays depend on values, and a reader by name finds less than the
# state dict has. Nodes say which module reads what (pkg.torch.onnx.name_scopes in their
# metadata). Source: the files that torch writes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.14.1 onnx==1.23.2 onnxscript==0.7.2
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import onnx
import torch


def names(change):
    """List the arrays of an exported network, whose parameters may all differ."""
    torch.manual_seed(0)
    norm, linear = torch.nn.LayerNorm, torch.nn.Linear
    network = torch.nn.Sequential(norm(8), linear(8, 8), norm(8), linear(8, 3)).eval()
    with torch.no_grad():
        torch.nn.init.zeros_(network[1].bias)
        torch.nn.init.zeros_(network[3].bias)
        for parameter in network.parameters():
            parameter += change * torch.rand(parameter.shape)
    images = (torch.rand(1, 8),)
    torch.onnx.export(network, images, "file.onnx", external_data=False, verbose=False)
    arrays = onnx.load("file.onnx").graph.initializer
    return sorted(each.name for each in arrays), len(network.state_dict())


(fresh, count), (trained, _) = names(0), names(1)
print("torch", torch.__version__, "onnx", onnx.__version__)
print("parameters            ", count)
print("arrays, values equal  ", len(fresh), fresh)
print("arrays, values differ ", len(trained), trained)
same = len(trained) == count and len(fresh) == 4 and "2.weight" not in fresh
print("equal parameters are merged" if same else "the behaviour has changed")
raise SystemExit(0 if same else 1)
PYTHON
