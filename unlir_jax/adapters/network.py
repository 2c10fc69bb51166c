"""Put an adapter into its network."""

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import filters, tree
from unlir_jax.adapters import file
from unlir_jax.adapters.file import Adapter
from unlir_jax.data import classes as class_names
from unlir_jax.data import preprocessing
from unlir_jax.models import layers, pretrained

BACKBONE = "backbone/"


def decides(adapter: Adapter, network: pretrained.Pretrained) -> bool:
    """Tell whether an adapter's head can take the place of a network's classifier.

    That is a linear head on average pooling, in a network that reads averages.
    """
    says, head = adapter.metadata, adapter.head
    own = tree.flatten(network.variables).get(f"{file.HEAD}kernel", np.zeros(()))
    return (
        says.get("head") == "linear"
        and says.get("pooling") == "average"
        and set(head) == {"kernel", "bias"}
        and head["kernel"].ndim == 2
        and head["kernel"].shape[1:] == head["bias"].shape
        and not hasattr(network.module, "backbone")
        and not layers.pooling_of(network.module)
        and np.shape(own)[:1] == head["kernel"].shape[:1]
    )


def apply(adapter: Adapter, network: pretrained.Pretrained) -> pretrained.Pretrained:
    """Fold an adapter into a network, which can then be used like any other.

    Where its head `decides`, it becomes the classifier; any other head, such as one of
    cosines, cannot be a part of the network, which keeps its own classifier. Images
    are framed as the adapter saw them. All that has no weights is shared with the
    frozen network, so that many adapted ones take little more memory than one.

    Raises:
        ValueError: The adapter is for another network.
    """
    file.check(adapter, network.name, network.variables)
    leaves = tree.flatten(filters.apply(network.variables, adapter.weights))
    module, names = network.module, network.class_names
    if decides(adapter, network):
        leaves |= {file.HEAD + name: leaf for name, leaf in adapter.head.items()}
        classes = len(adapter.head["bias"])
        module = module.clone(num_classes=classes)
        names = tuple(map(str, adapter.metadata.get("class_names", ())))
        if len(names) != classes:
            names = class_names.placeholders(classes)
    changed = pretrained.changed(network, module, tree.unflatten(leaves))
    size, crop, interpolation = framed(adapter, network)
    return changed._replace(
        class_names=names,
        image_size=size,
        crop=crop,
        interpolation=interpolation,
        preprocess=preprocessing.preprocessing(size, crop, interpolation),
    )


def framed(adapter: Adapter, network: pretrained.Pretrained) -> tuple[int, float, str]:
    """Give the side of images, crop and interpolation that an adapter learnt on.

    The network's classes where it does not say.
    """
    size, crop = adapter.metadata.get("image_size"), adapter.metadata.get("crop")
    if size is not None and crop is not None:
        said = adapter.metadata.get("interpolation")
        known = said in preprocessing.INTERPOLATIONS
        return size, float(crop), str(said) if known else network.interpolation
    return network.image_size, network.crop, network.interpolation


def weigh(adapter: Adapter, network: pretrained.Pretrained) -> pretrained.Pretrained:
    """Fold an adapter into the backbone of a network that decides in another way.

    The adapter's head is left aside.

    Args:
        adapter: See `load`; `merge` averages several.
        network: That of the adapter, or one that decides by parts of what it sees.

    Raises:
        ValueError: The adapter is for another network.
    """
    leaves = tree.flatten(network.variables)
    inner = BACKBONE if hasattr(network.module, "backbone") else ""
    trunk = tree.unflatten(
        {
            _moved(path, inner, ""): leaf
            for path, leaf in leaves.items()
            if path.partition("/")[2].startswith(inner)
        }
    )
    file.check(adapter, network.name, trunk)
    folded = tree.flatten(filters.apply(trunk, adapter.weights))
    leaves |= {_moved(path, "", inner): leaf for path, leaf in folded.items()}
    variables = jax.tree.map(jnp.asarray, tree.unflatten(leaves))
    return network._replace(variables=variables, sha256=tree.sha256(variables))


def _moved(path: str, old: str, new: str) -> str:
    """Exchange what follows the collection in a path, such as `params/backbone/…`."""
    collection, _, rest = path.partition("/")
    return f"{collection}/{new}{rest.removeprefix(old)}"
