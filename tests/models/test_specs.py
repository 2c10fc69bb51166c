"""What backbones and decisions say of themselves is true, and enough for new ones."""

import importlib
import json
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers import applied

from unlir_jax import cli, filters, pruning, saliency, split, tree
from unlir_jax.features import block_cut
from unlir_jax.models import (
    backbone,
    channels,
    drawing,
    filling,
    part_network,
    pretrained,
    zoo,
)
from unlir_jax.models.part_network import cells, decision
from unlir_jax.parts import attribution, start
from unlir_jax.pruning.choice import Choice
from unlir_jax.weights import layouts

FAST = {"mobilenet_v2", "cifar_resnet8", "cifar_resnet50", "vgg11_bn"}
FAST |= {"deit_tiny_patch16_224"}


def every(names):
    """Have one of each kind in the fast tier."""
    return [
        name if name in FAST else pytest.param(name, marks=pytest.mark.exhaustive)
        for name in names
    ]


@pytest.mark.parametrize("name", every(zoo.networks()))
def test_what_a_backbone_says_is_what_its_shapes_are(name):
    network = zoo.networks()[name]
    module = network.build(num_classes=network.classes)
    shapes = filling.shapes(module, network.image_size)
    assert network.parameters == tree.count(tree.unflatten(dict(shapes))["params"])
    layers = {path[7:-7] for path in shapes if path.endswith("/kernel")}
    norms = {path[7:-6] for path in shapes if path.endswith("/scale")}
    # CaiT and XCiT are not pruned, and their filters have no weights.
    if hasattr(module, "channel_graph"):
        check_channels(name, module, shapes, layers, norms)
    # Every leaf has one name in each layout; there may be names for more.
    for layout, prefixes in network.layouts.items():
        names = [layouts.their_name(path, prefixes) for path in shapes]
        assert len(set(names)) == len(names), layout
        assert not [name for name in names if "/" in name], layout
        assert layers | norms <= set(prefixes), layout
    paths = split.module_paths(module, drawing.example(network))
    assert {network.layer, *network.aliases.values()} <= set(paths)


def check_channels(name, module, shapes, layers, norms):
    """Compare channels, norms and blocks with all that there are."""
    graph = channels.graph(module)
    channels.check(graph, tree.unflatten(dict(shapes)))
    convolutions = list(channels.convolutions(graph))
    assert len(set(convolutions)) == len(convolutions)
    pairs = filters.pairs(name)
    assert set(pairs) == layers
    followed = {norm for norm in pairs.values() if norm}
    units = block_cut.units(module, zoo.networks()[name].image_size)
    assert set(units) == channels.blocks(module)
    inside = [path for path in convolutions if not path.startswith("pool/")]
    assert all(any(path.startswith(unit) for unit in units) for path in inside)
    if graph.bare:
        assert followed <= norms
        return
    assert followed == norms
    assert all(norm in (None, f"{path[:-4]}norm") for path, norm in pairs.items())


def test_channels_of_other_modules_are_not_known():
    for ask in (pruning.graph, lambda module: block_cut.units(module, 32)):
        with pytest.raises(ValueError, match="channels are not known; expected"):
            ask(nn.Dense(3))


def test_synonyms_are_of_networks_and_names_are_taken_once():
    for name, ours in zoo.synonyms().items():
        assert zoo.find(name) == (ours, zoo.networks()[ours])
    for name in ("vgg11", "mobilenetv2_100"):
        with pytest.raises(ValueError, match=f"{name}.*already"):
            backbone.register(name, zoo.networks()["vgg11"])


TOY = """
from flax import linen as nn

from unlir_jax.models import backbone, channels, layers
from unlir_jax.weights import layouts


class Toy(nn.Module):
    num_classes: int = 3
    mean: tuple = (0.5, 0.5, 0.5)
    deviation: tuple = (0.5, 0.5, 0.5)
    style: layers.Style = layers.Style()
    widths: tuple | None = None

    def setup(self):
        (width,) = layers.each_width(self.widths, 1)
        self.standardize = layers.Standardize(self.mean, self.deviation, self.style)
        brick = {"activation": nn.relu, "style": self.style}
        self.first = layers.ConvNorm(width or 6, 3, 2, **brick)
        self.second = layers.ConvNorm(8, 3, 2, **brick)
        self.classifier = nn.Dense(self.num_classes)

    def features(self, images, train=False):
        return self.second(self.first(self.standardize(images), train), train)

    def head(self, maps, train=False):
        return self.classifier(layers.pool(maps, "average"))

    def __call__(self, images, train=False):
        return self.head(self.features(images, train), train)

    @nn.nowrap
    def channel_graph(self):
        (width,) = self.widths or (6,)
        inner = channels.Group(("first",), "second", width)
        return channels.Graph("Toy", (inner,), (("second",),))


table = layouts.pair("first", "conv1", "bn1") | layouts.pair("second", "conv2", "bn2")
backbone.register(
    "toy",
    backbone.Network(
        Toy, "second", 649, {"theirs": table | {"classifier": "fc"}},
        {"body.1": "second"}, image_size=16, crop=1.0, classes=3, synonyms=("tiny",),
    ),
)
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Write a backbone as a file, and import it: no other line is needed."""
    (tmp_path / "toy_backbone.py").write_text(textwrap.dedent(TOY))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("toy_backbone")
    yield "toy"
    del backbone.NETWORKS["toy"], sys.modules["toy_backbone"]


def test_a_backbone_is_one_file(toy, tmp_path, capsys):
    test_what_a_backbone_says_is_what_its_shapes_are(toy)
    assert cli.main(["models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows[toy]["parameters"] == 649 and rows[toy]["layer"] == "second"
    network = pretrained.load("tiny", "random", seed=1)
    assert network.name == toy and network.image_size == 16
    table = {f"{name}/conv": f"{name}/norm" for name in ("first", "second")}
    assert filters.pairs(network) == table | {"classifier": None}
    # In the other library's names and axes.
    theirs = {}
    for path, leaf in tree.flatten(network.variables).items():
        array = np.asarray(leaf)
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        prefixes = zoo.find(toy)[1].layouts["theirs"]
        theirs[layouts.their_name(path, prefixes)] = array
    np.savez(tmp_path / "theirs.npz", **theirs)
    again = pretrained.load(toy, tmp_path / "theirs.npz", layer="body.1")
    assert tree.sha256(again.variables) == tree.sha256(network.variables)
    images = jnp.asarray(np.random.default_rng(0).random((2, 16, 16, 3), np.float32))
    explain = saliency.grad_cam(again.model)
    assert explain(again.variables, images, jnp.asarray([0, 2])).shape == (2, 4, 4)
    # A channel goes, and the file says how wide the network is.
    graph = pruning.graph(network.module)
    keep = {"first": np.arange(6) != 2}
    (tmp_path / "pruned").mkdir()
    pruning.save(pruning.prune(network, Choice(graph, keep)), tmp_path / "pruned")
    narrow = pretrained.load(str(tmp_path / "pruned"))
    assert narrow.variables["params"]["second"]["conv"]["kernel"].shape[2] == 5
    maps = split.whole(narrow.model)(narrow.variables, images)
    assert maps.shape == (2, 3)


@pytest.fixture
def vote():
    """Let the mean of each part's scores vote, in one class and nothing else."""

    @decision.register("vote")
    class Vote(decision.Decision):
        classes: int
        channels: int
        others: int = 0
        parts: int = 4

        def setup(self):
            small = nn.initializers.normal(0.1)
            self.looks = self.param("looks", small, (self.channels, self.parts))
            self.kernel = self.param("kernel", small, (self.parts, self.classes))
            self.bias = self.param("bias", small, (self.classes,))

        def check(self, rows, columns):
            decision.check_parts(self.parts, rows * columns)

        def look(self, grid):
            scores = grid.maps @ self.looks
            return scores, jax.nn.softmax(scores)

        def read(self, grid, train=False):
            scores, shares = self.look(grid)
            added = scores.mean((1, 2))[..., None] * self.kernel[None]
            return cells.Reading(scores, shares, added, self.offset())

        def logits(self, grid, train=False):
            return self.read(grid).contributions.sum(1) + self.bias[None]

        def evidence(self, grid, labels):
            scores, _ = self.look(grid)
            count = scores.shape[1] * scores.shape[2]
            return scores * self.kernel[:, labels].T[:, None, None] / count

        def offset(self):
            return self.bias

    yield Vote
    del decision.DECISIONS["vote"]


@pytest.mark.exhaustive
def test_a_decision_is_one_file(vote, tmp_path):
    chosen = {"name": "vote", "parts": 5}
    network = pretrained.load("cifar_resnet8", "random", num_classes=3, decision=chosen)
    assert isinstance(network.module.classifier, vote)
    assert part_network.specification(network.module) == chosen | {"layer": ""}
    pruning.save(network, tmp_path)
    again = pretrained.load(str(tmp_path))
    assert again.module == network.module
    assert attribution.decides_by_parts(str(tmp_path))
    images = jnp.asarray(np.random.default_rng(0).random((2, 32, 32, 3), np.float32))
    labels = jnp.asarray([0, 2])
    apply = applied(again.module)
    features = apply(again.variables, images, method="features")
    evidence = apply(again.variables, features, labels, method="evidence")
    logits = split.whole(again.model)(again.variables, images)
    np.testing.assert_allclose(
        evidence.sum((1, 2, 3))
        + again.variables["params"]["classifier"]["bias"][labels],
        logits[jnp.arange(2), labels],
        atol=1e-5,
    )
    explain = attribution.class_map(again)
    assert explain(again.variables, images, labels).shape == (2, 32, 32)
    with pytest.raises(ValueError, match="start.classifier.*descriptors"):
        start.check(again.module, 9, parts="kmeans", classifier="ridge")
    with pytest.raises(ValueError, match="'parst' is no setting|`decision.parst`"):
        part_network.assemble(network.module.backbone, chosen | {"parst": 3}, 3, 32)
    with pytest.raises(ValueError, match="a decision already"):
        decision.register("bag")(vote)
