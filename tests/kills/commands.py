"""Every command that writes, on networks and data that are small."""

from pathlib import Path

HERE = Path(__file__).parent
CONFIGS = HERE.parents[1] / "configs"


def train(kind):
    def command(given):
        return ["train", "--config", f"{HERE / 'trainings.py'}:kind={kind}", *RUN]

    return command


RUN = ("--workdir", "run")
MODEL = ("--model", "cifar_resnet8", "--weights")


def overrides(**settings):
    return [f"--config.{name}={value}" for name, value in settings.items()]


def evaluate(given):
    what = "model=cifar_resnet8,methods=grad_cam+random,metrics=average_drop+insertion"
    settings = {"data.path": given.colours / "test", "batch_size": 3}
    settings |= {"model.weights": given.root / "w.safetensors", "controls": False}
    settings |= {"statistics.resamples": 100, "labels": "predicted"}
    config = f"{CONFIGS / 'evaluate.py'}:{what}"
    return ["evaluate", "--config", config, *overrides(**settings), *RUN]


def few_shots(what):
    def command(given):
        settings = {"data.path": given.colours, "draws": 2, "data.image_size": 32}
        settings |= {"model.weights": given.root / "w.safetensors"}
        settings |= {"steps": 3, "batch_size": 4}
        config = f"{CONFIGS / 'few_shot.py'}:backbone=cifar_resnet8,{what}"
        return ["train", "--config", config, *overrides(**settings), *RUN]

    return command


def explain(given):
    pictures = [given.colours / "test" / "red" / f"{n}.png" for n in range(2)]
    weights = given.root / "w.safetensors"
    more = ("--steps", "2", "--batch-size", "1", "--overwrite", "--output", "run")
    return ["explain", *map(str, pictures), *MODEL, str(weights), *more]


def explain_earlier(given):
    """Write a report of other pictures, which `explain` then replaces."""
    picture = given.colours / "test" / "blue" / "3.png"
    return ["explain", str(picture), *explain(given)[3:]]


def parts(given):
    return ["parts", "--workdir", str(given.parts), "--output", "run"]


def explain_parts(given):
    picture = given.root / "parts" / "train" / "ant" / "00.png"
    return ["explain", str(picture), "--model", str(given.parts), "--output", "run"]


def retrieve(given):
    queries = given.colours / "test" / "red"
    index = ["--index", str(given.colours / "train"), "--top", "3"]
    weights = given.root / "w.safetensors"
    return ["retrieve", str(queries), *index, *MODEL, str(weights), "--output", "run"]


def adapters_explain(given):
    settings = {"images": given.colours / "test" / "red", "filters": 2, "output": "run"}
    settings |= {"weights": given.root / "w.safetensors"}
    words = [str(word) for n, value in settings.items() for word in (f"--{n}", value)]
    return ["adapters", "explain", str(given.root / "one.safetensors"), *words]


def adapters_apply(given):
    weights = ["--weights", str(given.root / "w.safetensors")]
    adapter = str(given.root / "one.safetensors")
    place = "run.safetensors"
    return ["adapters", "apply", "cifar_resnet8", adapter, place, *weights]


def adapters_merge(given):
    both = [str(given.root / f"{name}.safetensors") for name in ("one", "other")]
    return ["adapters", "merge", *both, "--output", "run.safetensors"]


def convert(given):
    weights = str(given.root / "w.safetensors")
    return ["convert", "cifar_resnet8", weights, "run.safetensors"]


COMMANDS = {
    "train": train("plain"),
    "train on kept features": train("cached"),
    "train a part network": train("parts"),
    "evaluate": evaluate,
    "few shots": few_shots("k=2,method=filters_single"),
    "few shots, several methods": few_shots("k=1+2,method=cosine+probe_gem"),
    "explain": explain,
    "explain a part network": explain_parts,
    "parts": parts,
    "retrieve": retrieve,
    "adapters explain": adapters_explain,
    "adapters apply": adapters_apply,
    "adapters merge": adapters_merge,
    "convert": convert,
}
BEFORE = {"explain": explain_earlier}
"""What is done in a place before the command, by its name."""
