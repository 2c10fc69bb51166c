"""Every setting of a training, with its default; configs change some of them."""

from ml_collections import ConfigDict, config_dict

from unlir_jax import objectives

POOLINGS = ("average", "gem", "max", "token", "token+average", "attention")
"""Ways to pool that a probe tries, where the network has them."""


def training() -> ConfigDict:
    """Give the settings of a training, for a config file to fill in.

    Durations and sizes are global: a batch is dealt out over all devices of all
    processes, so that a config means the same on any machine.
    """
    return ConfigDict(
        {
            # Of everything random: batches, augmentation, new weights, dropout.
            "seed": 0,
            # Over all devices and processes.
            "batch_size": 64,
            # Length of the run, one of the two.
            "steps": 0,
            "epochs": 0.0,
            # A workdir, a checkpoint or a file of weights to start from, as far as
            # names and shapes agree; and which of several, as `model.weights_key`.
            "init_from": "",
            "init_key": "",
            # Share of a moving average of the weights that each step keeps; 0: none.
            "average": 0.0,
            "data": _data(),
            "model": _model(),
            "start": _start(),
            # Computes the backbone's maps once and trains the head on them.
            "features": {"cache": False, "folder": ""},
            "probe": _probe(),
            # Options are those of the objective, see `unlir_jax/objectives/`.
            "objective": {"name": objectives.USUAL} | objectives.options(),
            "penalty": _penalty(),
            "optimizer": _optimizer(),
            # Steps between evaluations, 0: at the end only; what the best is chosen
            # by, and whether more of it is better.
            "evaluate": {"every": 0, "best": "accuracy", "largest": True},
            # Steps between checkpoints, 0: at the end and when stopped; how many of
            # the newest are kept, and whether the best is kept as well.
            "checkpoint": {"every": 500, "keep_last": 2, "best": False},
            # jit or pmap; arrays of at least so many numbers are cut over the devices,
            # 0: none.
            "mesh": {"mode": "jit", "shard_above": 0},
            # Steps between lines of metrics.jsonl, and whether TensorBoard gets them.
            "log": {"every": 50, "tensorboard": False},
        }
    )


def _model() -> dict:
    return {
        # See `unlir models`.
        "name": "cifar_resnet8",
        # A file, hf:owner/name, "random", or none: the available ones.
        "weights": config_dict.placeholder(str),
        # Of a file with several: what stands before their names, such as "state_dict";
        # "": the averaged ones where there are some.
        "weights_key": "",
        # A file of an adapter that weighs the filters of the backbone, such as
        # `configs/few_shot.py` writes; it learnt on the weights above.
        "adapter": "",
        # One number for each filter learns, `filters/…` in the optimiser's table: those
        # of layers whose whole path matches `select`, or of all behind the block
        # `after` ("auto": 40 % of the blocks are in front). Neither: none does. `mode`
        # is one of `filters.Mode`.
        "filters": {"select": "", "after": "", "mode": "output"},
        # Of the computation; the state is float32 in any case.
        "dtype": "float32",
        # Of products in float32: highest, or default for the accelerator's faster,
        # coarser ones.
        "precision": "highest",
        # Normalise by the statistics of the weights and leave them alone.
        "freeze_norms": False,
        # Share of what the classifier sees that is dropped in training; None: as the
        # network has it.
        "dropout": config_dict.placeholder(float),
        # Decides by parts instead of the network's own classifier; see
        # `models.parts.assemble`. No name: it does not.
        "decision": {"name": ""},
        # Pools by attention instead of the network's own way: ca_stream, simpool or
        # efficient_probing, with their settings, see `attention_pooling.assemble`; no
        # name: it does not. `classifier` is learned, frozen, or auto: frozen with
        # ca_stream where the weights' own knows all classes of the data by name, or a
        # new one starts with `average`: it learns on average-pooled features first.
        "attention_pooling": {
            "name": "",
            "classifier": "auto",
            "classifier_start": "random",
        },
    }


def _data() -> dict:
    return {
        # folder, npz, tfds, elpv or synthetic_parts.
        "source": "folder",
        # Of folder and npz.
        "path": "",
        # Splits; no `test`: nothing is evaluated.
        "train": "train",
        "test": "test",
        # What else that source takes, for both splits or for one.
        "options": {},
        "train_options": {},
        "test_options": {},
        # Side in pixels; 0: what the network is made for. So are the share of the
        # shorter side that is kept in evaluation, and how it is resized: bilinear,
        # bicubic or another of `preprocessing.INTERPOLATIONS`.
        "image_size": 0,
        "crop": 0.0,
        "interpolation": "",
        "augment": "random_resized_crop|flip",
        # memory keeps decoded images.
        "cache": "none",
        # Processes that read, 0: threads of this one; and how many of those, 0: one
        # for each core.
        "workers": 0,
        "threads": 0,
        # Stop at an image that cannot be read, instead of counting it.
        "strict": False,
        # By what a later start tells that the files of the data are those that it began
        # with: times (and sizes), or sizes.
        "compare": "times",
        # Look for images that are both trained and tested on, and say so.
        "duplicates": True,
    }


def _probe() -> dict:
    return {
        # Choose what is left open on held-out training images: the pooling below,
        # optimizer.weight_decay where it is None, and steps where there are none.
        "choose": False,
        # Of the head: average, gem or max, of a vision transformer also token and
        # token+average; "": left open, or the network's own.
        "pooling": "",
        # Candidates; of ways to pool that a network has, the first that is as good as
        # the best.
        "poolings": POOLINGS,
        "weight_decays": (0.1, 1.0, 10.0),
        "steps": (300, 1000, 3000, 10_000),
    }


def _penalty() -> dict:
    return {
        # On weights of filters: towards_one, l1 or hard_concrete, see
        # `adaptation.sparsity`.
        "name": "",
        # Factor on it.
        "weight": 0.0,
        # The last two are about weights in whose names this is found.
        "select": "",
    }


def _optimizer() -> dict:
    return {
        # Any of optax that takes a learning rate, and its further arguments.
        "name": "sgd",
        "options": {},
        "learning_rate": 0.1,
        "weight_decay": 0.0,
        # Largest norm of the gradient; 0: any.
        "clip_norm": 0.0,
        # Parts of a batch that are worked through one after the other.
        "accumulate": 1,
        # (pattern, rule) for each parameter; the first that matches counts. A rule
        # has train, learning_rate (a factor) and weight_decay, or is None: frozen.
        "table": ((".*/(bias|scale)", {"weight_decay": False}), (".*", {})),
        # constant, cosine, linear or multi_step; durations are shares of the run.
        "schedule": {
            "name": "cosine",
            "warmup": 0.0,
            "final": 0.0,
            "milestones": (),
            "factor": 0.1,
        },
    }


def _start() -> dict:
    # How a part network starts: parts from kmeans, class_kmeans, project (see
    # `parts.start`) or random, the classifier from ridge or random; whether
    # descriptors are whitened before the ridge (none, neighbours), and how many labels
    # of each class it may know, 0: all.
    return {
        "parts": "random",
        "classifier": "random",
        "whitening": "none",
        "labels_per_class": 0,
    }
