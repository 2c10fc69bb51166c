"""Network and images that are used when a part network is trained."""

from typing import NamedTuple

from unlir_jax.core.document_types import Document
from unlir_jax.data import preprocessing, splits
from unlir_jax.models import pretrained


class PartRun(NamedTuple):
    """Hold a training as far as its parts are concerned.

    Attributes:
        data: What is trained on, and what is tested on.
        network: One that decides by parts; its variables are not looked at.
        frame: Framing of images.
        seed: Seed of what is drawn.
        whitening: See `start.start`; with it, retrieval is measured as well.
        labels_per_class: How many labels of each class baselines may know; 0: all.
        creatures: Where the test has `data.synthetic_parts`, the options that it is
            drawn by, `split` included; else None.
    """

    data: splits.Splits
    network: pretrained.Pretrained
    frame: preprocessing.Frame
    seed: int = 0
    whitening: str = "none"
    labels_per_class: int = 0
    creatures: Document | None = None
