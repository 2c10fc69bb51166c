r"""Learn from few images of each class: filter weights, compared with probes.

    unlir train --config configs/few_shot.py:backbone=mobilenet_v2,k=5,method=filters \
        --config.data.path=DIR --config.draws=5 --workdir runs/few

k images of each class are drawn from DIR/train, and all of DIR/test is tested. A draw
has the same images for every method.

Several methods or numbers, joined by +, run in turn, each in its own folder. WORKDIR
gets a summary of all, curves.png and report.html:

    unlir train --config configs/few_shot.py:k=1+2+5,method=probe_gem+filters …

With `--config.unlabelled=500`, or `all`, that many other images of DIR/train are used
without their labels.

Arguments: `backbone`, a name of `unlir models`; `data`, a name in
`unlir_jax/data/presets.py`; `k`, one or several; `method`, one, several or `all`:
filters (three adapters of 15,296 numbers each), filters_single, shifts_single,
probe_average, probe_max, probe_gem, probe_token, probe_gem_crops, ridge, lda, cosine,
prototypes, cosine_head, norm_affine, bias, ia3, lora, last_block, full.

Vision transformers (`backbone=vit_small_patch14_dinov2`) see images of 154 pixels where
patches have 14, and methods pool by the class token.

Expected: on 50 species of CUB-200-2011, k=5, five draws: filters 84.9 +- 0.8 %,
probe_gem 82.5 +- 1.2 %, see docs/results/few_shot.md.

Time: on two CPU cores half a minute a draw for a probe, a minute and a half for one
adapter, three minutes for three.
"""

from unlir_jax.data import presets
from unlir_jax.few_shot import settings
from unlir_jax.runtime import config


def get_config(argument=""):
    """Give the settings."""
    given = config.parse_arguments(
        argument, backbone="mobilenet_v2", data="folder", k="5", method="filters"
    )
    shots = _numbers(given.k)
    methods = tuple(given.method.split("+"))
    found = settings.few_shot()
    presets.choose_data(found, given.data)
    found.model.name = given.backbone
    found.k = shots[0]
    found.method = methods[0]
    if len(shots) > 1 or len(methods) > 1 or methods == ("all",):
        found.shots = shots
        found.methods = methods
    found.data.augment = ""
    # Whole patches, of 14 pixels or of 8, 16 or 32.
    found.data.image_size = 154 if "patch14" in given.backbone else 160
    found.data.crop = 1.0
    if given.data == "elpv":
        found.data.image_size = 300
        found.data.options = {"share": 0.25, "seed": 0}
    return found


def _numbers(text):
    """Read 1+2+5."""
    if not all(each.isdecimal() for each in text.split("+")):
        raise ValueError(
            f"`k`={text!r}; expected a number of pictures, or several joined by +, "
            "such as 1+2+5."
        )
    return tuple(int(each) for each in text.split("+"))


def get_variants(argument=""):
    """Name all methods and numbers of shots."""
    del argument
    methods = ("filters", "filters_single", "probe_gem", "probe_max", "probe_average")
    return {
        f"{method}_{k}": {"method": method, "k": k}
        for k in (1, 2, 5, 10, 20, 30)
        for method in methods
    }
