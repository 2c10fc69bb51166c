"""A folder in which the commands of the documentation run, on tiny inputs.

Names that the pages use are found there: `cat.jpg`, `birds/train`, `images`, a network
`tiny`, and its weights. `shorten` gives a command tiny sizes; what a command needs from
an earlier one (`runs/birds`) is made by the command of the pages that makes it.
"""

import re
import shlex
from pathlib import Path

import numpy as np
import small_network
from PIL import Image

from unlir_jax.weights import exported

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
CLASSES = ("gadwall", "mallard", "tiger cat")
NETWORK, SIDE = "cifar_resnet8", 32
WEIGHTS = "tiny/weights.safetensors"
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)

# In the order in which they are applied.
REPLACED = (
    (r"\b(mobilenet_v2-b0353104|resnet50|resnet18)\.pth\b|\bFILE\b", WEIGHTS),
    (r"(?<==)(mobilenet_v2|efficientnet_lite0)(?=,methods|,metrics)", "tiny"),
    (r"(model=)(mobilenet_v2|efficientnet_lite0)\b", r"\1tiny"),
    (r"(--model |parts |apply |models )(mobilenet_v2)\b", rf"\1{NETWORK}"),
    (rf"(--model {NETWORK},)efficientnet_lite0", r"\1tiny"),
    (r"--layer block\d+,block\d+", "--layer layer2,layer3"),
    (r"(backbone=)\w+", rf"\1{NETWORK}"),
    (
        r"(few_shot\.py|filters\.py|linear_probe\.py|train_parts\.py)(:(?!.*backbone))",
        rf"\1:backbone={NETWORK},",
    ),
    (
        r"(few_shot\.py|filters\.py|linear_probe\.py|train_parts\.py)(?= )",
        rf"\1:backbone={NETWORK}",
    ),
    (r"(?<= )(\d_\w+\.safetensors)", r"runs/few/adapters/\1"),
    (r"\b(cub50|cub20|flowers17|imagenet200|classes200|IMAGES)\b", "birds"),
    (r"\becssd/images\b", "images"),
    (r"stages=block\d+\+block\d+", "stages=layer2+layer3"),
    (r"\b(k=)[\d+]+", r"\g<1>2"),
    # Of three classes two are known, of which none can be held out.
    (r"scores=[\w+]+", "scores=msp+relative_mahalanobis+parts"),
    (r"--config.data.image_size=\d+", f"--config.data.image_size={SIDE}"),
    (r"--config.(steps|data.limit)=\d+", r"--config.\1=2"),
    (r"--config.(epochs|draws)=\d+", r"--config.\1=1"),
    (r"insertion.steps=\d+", "insertion.steps=2"),
    (r"opti_cam.steps=\d+", "opti_cam.steps=1"),
    (r"--set rise.masks=\d+", "--set rise.masks=2"),
    (r"--whiten \d+", "--whiten 2"),
    (r"model.dropout=[\d.]+", "model.dropout=0.0"),  # A ResNet drops nothing.
    # These differ from another run by a number or a folder only, so it is made once.
    (r" --config.seed=0\b", ""),
    (r"\bruns/parts\b", "runs/birds"),
    (r"\bruns/weights\b", "runs/task"),
    (r"\bruns/filters5\b", "runs/filters"),
)
"""Patterns of long names and numbers, and the short ones that take their place."""

ADDED = (
    (
        r"/(linear_probe|filters|train_parts|few_shot)\.py",
        "--config.data.image_size=32 --config.batch_size=4 "
        f"--config.model.weights={WEIGHTS}",
    ),
    (r"/(linear_probe|few_shot|quickstart)\.py", "--config.steps=2"),
    (
        r"/linear_probe\.py",
        "--config.probe.choose=false --config.probe.pooling=average "
        "--config.optimizer.weight_decay=0.1",
    ),
    (
        r"/attention_pooling\.py",
        "--config.data.image_size=32 --config.batch_size=4 --config.epochs=1 "
        f"--config.model.weights={WEIGHTS}",
    ),
    (r"/few_shot\.py", "--config.draws=1"),
    (
        r"/open_set\.py",
        "--config.data.image_size=32 --config.batch_size=4 --config.splits=1 "
        f"--config.detectors.parts=4 --config.model.weights={WEIGHTS}",
    ),
    (r"/filters\.py|method=(fine_tune|bag)", "--config.epochs=1"),
    (r"/train_parts\.py", "--config.model.decision.parts=4"),
    (r"/train_parts\.py.*data=synthetic_parts", "--config.steps=2"),
    (
        r"/quickstart\.py|data=synthetic_parts",
        "--config.batch_size=4 --config.data.train_options.size=8 "
        "--config.data.test_options.size=8 --config.data.options.classes=6",
    ),
    (
        r"unlir evaluate(?!.*open_set)",
        "--config.data.limit=2 --config.batch_size=4",
    ),
    (
        r"/robustness\.py(?!.*corruptions=)",
        "--config.attack_options.apgd.steps=2 --config.attack_options.fmn.steps=2",
    ),
    (
        r"unlir evaluate.*(opti_cam\b|/evaluate\.py(?!.*methods=))",
        "--config.method_options.opti_cam.steps=1",
    ),
    (r"unlir explain (?!.*--method)|unlir explain.*(opti_cam|integrated)", "--steps=1"),
    (r"unlir explain", "--overwrite"),
    (r"unlir (explain|retrieve) (?!.*--model)", "--model=tiny"),
    (r"unlir (retrieve|parts|convert)", "--overwrite"),
)
"""Patterns of commands, and what makes them small, unless they say it themselves."""


def blocks(page: Path) -> list[tuple[str, str]]:
    """List the blocks of a page: language and text."""
    return BLOCK.findall(page.read_text())


def commands(page: Path) -> list[str]:
    """List the command lines of a page, each on one line and without its comment."""
    found = []
    for language, text in blocks(page):
        if not language:
            lines = text.replace("\\\n", " ").splitlines()
            found += [re.split(r"\s+#\s", line)[0].strip() for line in lines]
    return [re.sub(r" +", " ", line) for line in found if line]


def shorten(command: str) -> list[str]:
    """Split a command into words that take seconds instead of hours."""
    for pattern, value in REPLACED:
        command = re.sub(pattern, value, command)
    words = shlex.split(command)
    for pattern, added in ADDED:
        given = {word.partition("=")[0] for word in words}
        if re.search(pattern, command):
            words += [
                word for word in added.split() if word.partition("=")[0] not in given
            ]
    if any("model=tiny" in word for word in words):
        given = ("--config.model.weights=", "--config.model.random_labels=")
        words = [word for word in words if not word.startswith(given)]
    return words


def write(folder: Path) -> None:
    """Write everything that the commands read."""
    random = np.random.default_rng(0)
    rows = ["path,class,split,x0,y0,x1,y1"]
    for split, count in (("train", 5), ("test", 2)):
        for place, name in enumerate(CLASSES):
            (folder / "birds" / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 160, (40, 40, 3), np.uint8)
                pixels[..., place] += 90
                file = f"{split}/{name}/{index}.jpg"
                Image.fromarray(pixels).save(folder / "birds" / file)
                rows.append(f"{file},{name},{split},5,5,30,30")
    (folder / "unknown.txt").write_text(f"{CLASSES[0]}\n")
    (folder / "birds" / "index.csv").write_text("\n".join(rows) + "\n")
    for name in ("images/gadwall", "images/mallard", "photos", "numbered"):
        (folder / name).mkdir(parents=True)
        for place in range(2):
            pixels = random.integers(0, 256, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{place:03}_image.jpg")
    for path in sorted((folder / "images").rglob("*.jpg")):
        place = path.relative_to(folder / "images").with_suffix(".npy")
        (folder / "theirs" / "attention" / place).parent.mkdir(
            parents=True, exist_ok=True
        )
        np.save(folder / "theirs" / "attention" / place, random.random((8, 8)))
    for name in ("cat.jpg", "bird.jpg", "animal.png"):
        pixels = random.integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    leaves = small_network.draw(num_classes=len(CLASSES))
    (folder / "tiny").mkdir()
    purpose = exported.Purpose(NETWORK, CLASSES, SIDE, 1.0)
    exported.write(folder / "tiny", leaves, purpose)
    for guide, file in (("own_network", "nets.py"), ("attention", "vits.py")):
        for _, text in blocks(ROOT / "docs" / "guides" / f"{guide}.md"):
            if text.startswith(f"# {file}"):
                (folder / file).write_text(text)
    (folder / "configs").symlink_to(ROOT / "configs")
    (folder / "benchmarks").symlink_to(ROOT / "benchmarks")
    (folder / "launch").symlink_to(ROOT / "launch")


BEGINNING = """
import jax, numpy as np, jax.numpy as jnp, unlir_jax
from flax import linen as nn, nnx
from unlir_jax import adapters, maps, metrics, saliency, split
from unlir_jax.training import defaults
p = unlir_jax.load("tiny")
images = jnp.asarray(p.preprocess("cat.jpg"))[None]
labels = jnp.asarray([1], jnp.int32)
s = saliency.grad_cam(p.model)(p.variables, images, labels)
explain, variables = saliency.grad_cam(p.model), p.variables
weights, key = "tiny/weights.safetensors", jax.random.key(0)
batches, settings = [images], defaults.training()
"""
BEFORE = {
    "allow_training=True": """
class Dropout(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(4, (3, 3), name="conv")(x)
        return nn.Dropout(0.5, deterministic=not train)(x).mean((1, 2))
class Network(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
    def features(self, x):
        return self.dropout(self.conv(x))
    def head(self, maps):
        return maps.mean((1, 2))
linen, module = Dropout(), Network(nnx.Rngs(0))
variables = linen.init(key, images)
def explain(variables, images, labels):
    return saliency.grad_cam(model)(variables, images, labels)
""",
    "adapters.stack": """
from unlir_jax import filters
files = ["one.safetensors", "two.safetensors"]
for file in files:
    adapters.save(
        file,
        filters.init(p.variables, "layer3/.*", mode="output", pairing=filters.pairs(p)),
        backbone=p.name,
        fingerprint=adapters.fingerprint(p.variables),
        overwrite=True,
    )
""",
}
"""What a block with these words needs besides."""

CODE = (
    (r"from_linen\(module, at, train=True", 'from_linen(linen, "conv", train=True'),
    (
        r'load\("(efficientnet_lite0|mobilenet_v2)"(, (fold|dtype)=[\w.]+)?\)',
        r'load("tiny"\2)',
    ),
    (
        r'"(efficientnet_lite0|mobilenet_v2|resnet50|vgg16_bn|cifar_resnet18)"',
        f'"{NETWORK}"',
    ),
    (r'"(mobilenet_v2-b0353104\.pth|hf:[^"]*|mine\.safetensors)"', f'"{WEIGHTS}"'),
    (r"\bblock13\b|features\.32", "layer2"),
    (r"block1\[0-7\]", "layer[23]"),
    (r"\bimagenet200\b", "numbered"),
)
"""Patterns in code, and what takes their place."""


def shorten_code(text: str) -> str:
    """Let an example use what is in the folder."""
    for pattern, value in CODE:
        text = re.sub(pattern, value, text)
    return text
