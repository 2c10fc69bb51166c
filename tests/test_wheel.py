"""What is installed is what is in the checkout: code, templates, configs, lists."""

import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def shipped(folder):
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_wheel_and_sdist_hold_all_that_the_package_reads(tmp_path):
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="no hatchling")
    sdist = pytest.importorskip("hatchling.builders.sdist", reason="no hatchling")
    package, configs = shipped("unlir_jax"), shipped("configs")
    (built,) = wheel.WheelBuilder(str(ROOT)).build(directory=str(tmp_path))
    with zipfile.ZipFile(built) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == package | {f"unlir_jax/{name}" for name in configs}
    (built,) = sdist.SdistBuilder(str(ROOT)).build(directory=str(tmp_path))
    with tarfile.open(built) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= package | configs | {"pyproject.toml", "LICENSE", "README.md"}
