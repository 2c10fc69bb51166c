"""Configs: typed settings, sentences for what is wrong, variants, differences."""

import json
import subprocess
import sys

import pytest
from ml_collections import config_dict

from unlir_jax.runtime import config

TRAIN = """
import ml_collections
from ml_collections import config_dict
from unlir_jax.runtime import config as configs

def get_config(argument=""):
    given = configs.parse_arguments(argument, backbone="resnet18", parts=200)
    settings = ml_collections.ConfigDict()
    settings.seed = 0
    settings.steps = 1000
    settings.warmup = settings.get_ref("steps") // 10
    settings.model = ml_collections.ConfigDict(
        {"backbone": given.backbone, "parts": given.parts, "frozen": True}
    )
    settings.model.weights = config_dict.placeholder(str)
    settings.optimizer = ml_collections.ConfigDict(
        {"learning_rate": 0.1, "boundaries": (0.5, 0.75), "schedule": "cosine"}
    )
    settings.stages = (2, 2)
    return settings

def get_variants(argument=""):
    return {
        f"learning_rate={rate}": {"optimizer.learning_rate": rate, "stages": (1, 2)}
        for rate in (0.1, 0.01)
    }
"""


@pytest.fixture
def write(tmp_path):
    def write(source, name="train.py"):
        path = tmp_path / name
        path.write_text(source)
        return str(path)

    return write


@pytest.fixture
def train(write):
    return write(TRAIN)


def get(settings, key):
    for name in key.split("."):
        settings = settings[name]
    return settings


def test_import_is_cheap():
    program = "import sys; from unlir_jax.runtime import config; "
    program += "print({'jax', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True)
    assert (done.stdout.strip(), done.stderr) == (b"set()", b"")


def test_defaults_and_argument(train, tmp_path):
    settings = config.load(train)
    assert (settings.model.backbone, settings.model.parts) == ("resnet18", 200)
    settings = config.load(f"{train}:parts=50,backbone=mobilenet_v2")
    assert (settings.model.backbone, settings.model.parts) == ("mobilenet_v2", 50)
    assert [path.name for path in tmp_path.iterdir()] == ["train.py"], "no __pycache__"


def test_locked(train):
    settings = config.load(train)
    with pytest.raises(KeyError):
        settings.model["widht"] = 1
    with pytest.raises(TypeError):
        settings.seed = "one"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed=1", 1),
        ("--config.seed=-1", -1),
        ("optimizer.learning_rate=3e-4", 3e-4),
        ("optimizer.learning_rate=1", 1.0),
        ("model.frozen=false", False),
        ("model.frozen=0", False),
        ("model.frozen=True", True),
        ("model.weights=a=b.pth", "a=b.pth"),
        ("model.weights=none", None),
        ("optimizer.schedule=none", "none"),
        ("optimizer.schedule=", ""),
        ("stages=(3, 4, 6, 3)", (3, 4, 6, 3)),
        ("stages=[3]", (3,)),
        ("stages=()", ()),
        ("optimizer.boundaries=1,0.5", (1.0, 0.5)),
    ],
)
def test_override(train, override, expected):
    key, _, _ = override.removeprefix("--config.").partition("=")
    value = get(config.load(train, [override]), key)
    assert (value, type(value)) == (expected, type(expected))
    if isinstance(expected, tuple):
        assert [type(item) for item in value] == [type(item) for item in expected]


def test_later_overrides_win_and_references_follow(train):
    settings = config.load(train, ["steps=50", "steps=70", "model.weights=x"])
    assert (settings.steps, settings.warmup) == (70, 7)
    settings = config.load(train, ["steps=50", "warmup=1", "model.weights=None"])
    assert (settings.steps, settings.warmup, settings.model.weights) == (50, 1, None)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.part=3", "did you mean `--config.model.parts`? Settings there: "),
        ("modle.parts=3", "did you mean `--config.model.parts`?"),
        ("learning_rate=3", "did you mean `--config.optimizer.learning_rate`?"),
        ("zzz=3", "`--config.zzz`: there is no such setting. Settings there: "),
        ("seed.value=3", "there is no such setting. Settings there: "),
        ("model=3", "is a group; set one of its settings: "),
        ("seed", "`--config.seed` has no value; expected `--config.seed=VALUE`."),
        ("seed=1.5", "`--config.seed`='1.5' is of another type; expected an int."),
        ("seed=True", "expected an int."),
        ("optimizer.learning_rate=fast", "expected a float."),
        ("optimizer.learning_rate=nan", "` is nan; expected a finite number"),
        ("optimizer.learning_rate=-inf", "` is -inf; expected a finite number"),
        ("stages=(1, 1e999)", "expected a tuple such as (2, 2)."),
        ("optimizer.boundaries=1e999,1", "boundaries` is inf; expected a finite"),
        ("optimizer=adam", "is a group; set one of its settings: "),
        ("=3", "`--config.`: there is no such setting. Settings there: "),
        ("model.frozen=2", "expected true or false."),
        ("stages=(1, 'a')", "expected a tuple such as (2, 2)."),
        ("stages=(1, True)", "expected a tuple such as (2, 2)."),
        ("stages=3", "expected a tuple such as (2, 2)."),
        ("stages=(3", "expected a tuple such as (2, 2)."),
        ("seed=none", "expected an int."),
    ],
)
def test_bad_override(train, override, expected):
    with pytest.raises(ValueError) as caught:
        config.load(train, [override])
    assert expected in str(caught.value)
    assert "`--config." in str(caught.value)


def test_settings_there_are_those_of_the_deepest_group(train):
    with pytest.raises(ValueError, match="Settings there: [a-z, ]*[.]$") as caught:
        config.load(train, ["model.q.r=1"])
    there = str(caught.value).rpartition("there: ")[2].rstrip(".").split(", ")
    assert sorted(there) == ["backbone", "frozen", "parts", "weights"]


BAD = {
    "no function": ("x = 1", "", "has no function `get_config`"),
    "no call": ("get_config = 1", "", "has no function `get_config`"),
    "nothing returned": ("def get_config(): pass", "", "returned a NoneType; expected"),
    "dict": ("def get_config(): return {}", "", "returned a dict; expected"),
    "bug": ("def get_config():\n    return 1 / 0", "", "ZeroDivisionError in line 2"),
    "bug at once": ("\n\nimport nothing_such", "", "ModuleNotFoundError in line 3"),
    "syntax": ("def get_config(", "", "failed with SyntaxError"),
    "argument": ("def get_config(): pass", ":a=1", "takes no argument; got 'a=1'"),
    "refused": (TRAIN, ":part=1", "did you mean `parts`? Arguments: backbone, parts."),
    "refused type": (TRAIN, ":parts=few", "`parts`='few' is of another type"),
    "not plain": (
        "import ml_collections\n"
        "def get_config(): return ml_collections.ConfigDict({'a': {'b': {1}}})",
        "",
        "`--config.a.b` is a set; expected a bool",
    ),
    "required": (
        "import ml_collections\n"
        "def get_config(): return ml_collections.ConfigDict({'a': "
        "{'b': ml_collections.config_dict.required_placeholder(str)}})",
        "",
        "`--config.a.b` has no value",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_file(write, case):
    source, argument, expected = BAD[case]
    path = write(source)
    with pytest.raises(ValueError) as caught:
        config.load(path + argument)
    assert expected in str(caught.value)
    assert "train.py" in str(caught.value) or "--config" in str(caught.value)


def test_required_placeholder_can_be_filled(write):
    path = write(BAD["required"][0])
    assert config.load(path, ["a.b=FILE"]).a.b == "FILE"


@pytest.mark.parametrize(
    ("signature", "expected"), [("", "own"), ("text", ""), ("text='own'", "own")]
)
def test_get_config_without_argument(write, signature, expected):
    """A default in the file is not overwritten by nothing."""
    text = "text" if signature else "'own'"
    path = write(
        "import ml_collections\n"
        f"def get_config({signature}):\n"
        f"    return ml_collections.ConfigDict(dict(got={text}))"
    )
    assert config.load(path).got == expected


def test_missing_file_and_packaged_configs(write, tmp_path, monkeypatch):
    packaged = tmp_path / "wheel" / "configs"
    (packaged / "parts").mkdir(parents=True)
    write(TRAIN, "wheel/configs/linear_probe.py")
    write(TRAIN, "wheel/configs/parts/cub.py")
    monkeypatch.setattr(config, "_FOLDERS", (packaged,))
    monkeypatch.chdir(tmp_path)
    for name in ("configs/linear_probe.py", "linear_probe.py", "configs/parts/cub.py"):
        assert config.load(f"{name}:parts=7").model.parts == 7
    with pytest.raises(FileNotFoundError) as caught:
        config.load("configs/linear_prob.py:parts=7")
    message = str(caught.value)
    assert "did you mean `configs/linear_probe.py`?" in message
    assert message.endswith("configs/linear_probe.py, configs/parts/cub.py.")
    # A file of one's own goes before a packaged one.
    (tmp_path / "configs").mkdir()
    write(TRAIN.replace("parts=200", "parts=3"), "configs/linear_probe.py")
    assert config.load("configs/linear_probe.py").model.parts == 3
    monkeypatch.setattr(config, "_FOLDERS", ())
    with pytest.raises(FileNotFoundError, match="there are none"):
        config.load("elsewhere.py")


def test_parse_arguments():
    defaults = {"backbone": "a", "parts": 200, "rate": 0.5, "local": False}
    assert vars(config.parse_arguments("", **defaults)) == defaults
    given = config.parse_arguments(" backbone=b=c , parts=1,rate=2,local", **defaults)
    assert vars(given) == {"backbone": "b=c", "parts": 1, "rate": 2.0, "local": True}
    assert not config.parse_arguments("local=false", local=True).local
    given = config.parse_arguments("sizes=(1,2),name=x", sizes=(3,), name=None)
    assert vars(given) == {"sizes": (1, 2), "name": "x"}
    assert config.parse_arguments("name=none", name=None).name is None
    assert config.parse_arguments("text=a", text="b").text == "a"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("part=1", "`part`: there is no such argument; did you mean `parts`?"),
        ("q", "there is no such argument. Arguments: parts, name."),
        ("parts=x", "`parts`='x' is of another type; expected an int."),
        ("parts", "`parts` has no value; expected `parts=` and an int."),
        ("name", "`name` has no value"),
        ("parts=1,", "there is no such argument"),
    ],
)
def test_bad_arguments(text, expected):
    with pytest.raises(ValueError) as caught:
        config.parse_arguments(text, parts=1, name=None)
    assert expected in str(caught.value)


def test_variants(train):
    found = config.variants(train)
    assert list(found) == ["learning_rate=0.1", "learning_rate=0.01"]
    for rate, changed in zip((0.1, 0.01), found.values(), strict=True):
        settings = config.load(train, config.as_overrides(changed))
        assert settings.optimizer.learning_rate == rate
        assert settings.stages == (1, 2)


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ("{}", "at least one name"),
        ("[1]", "expected {name: {setting: value}}"),
        ("{'a': 1}", "expected {name: {setting: value}}"),
        ("{'a/b': {}}", "Variant 'a/b'"),
        ("{'..': {}}", "Variant '..'"),
        ("{'-a': {}}", "Variant '-a'"),
        ("{1: {}}", "Variant 1 "),
        ("{'a': {'sed': 1}}", "did you mean `--config.seed`?"),
        ("{'a': {'seed': 0.5}}", "expected an int"),
    ],
)
def test_bad_variants(write, returned, expected):
    head = TRAIN.partition("def get_variants")[0]
    path = write(f"{head}def get_variants(): return {returned}")
    with pytest.raises(ValueError) as caught:
        config.variants(path)
    assert expected in str(caught.value)


def test_no_variants(write):
    path = write(TRAIN.partition("def get_variants")[0])
    with pytest.raises(ValueError, match="has no variants; expected a function"):
        config.variants(path)


def test_to_dict_survives_json(train):
    plain = config.to_dict(config.load(train))
    assert json.loads(json.dumps(plain)) == plain
    assert plain["stages"] == [2, 2]
    assert plain["warmup"] == 100
    assert plain["model"]["weights"] is None


def test_differences(train):
    here = config.to_dict(config.load(train, ["seed=1", "optimizer.learning_rate=0.2"]))
    there = config.to_dict(config.load(train, ["stages=(1,)"]))
    assert config.differences(here, json.loads(json.dumps(here))) == []
    assert sorted(config.differences(here, there)) == [
        "optimizer.learning_rate: 0.2 here, 0.1 there",
        "seed: 1 here, 0 there",
        "stages: [2, 2] here, [1] there",
    ]
    assert config.differences(here, there, ["optimizer", "seed"]) == [
        "stages: [2, 2] here, [1] there"
    ]
    assert config.differences({"a": 1}, {"ab": 1}, ["a"]) == [
        "ab: absent here, 1 there"
    ]
    assert config.differences({"a": {"b": 1}}, {"a": {}}) == [
        "a.b: 1 here, absent there",
        "a: absent here, {} there",
    ]


def test_text():
    settings = config_dict.ConfigDict({"a": {"b": (1, 2), "c": {"d": "x"}}, "e": None})
    assert config.text(settings) == "a:\n  b: (1, 2)\n  c:\n    d: 'x'\ne: None"


def test_what_differs_is_said_in_few_letters():
    """A config of another run can hold anything."""
    (said,) = config.differences({"a": 1}, {"a": "x" * 10_000})
    assert said.startswith("a: 1 here, 'xxx") and len(said) < 400
