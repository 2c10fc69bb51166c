"""Put an adapter into its network."""

import numpy as np

from unlir_jax import filters, pretrained, tree
from unlir_jax.adapters import file
from unlir_jax.adapters.file import Adapter
from unlir_jax.models import parts


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
        and not parts.specification(network.module)
        and np.shape(own)[:1] == head["kernel"].shape[:1]
    )


def apply(adapter: Adapter, network: pretrained.Pretrained) -> pretrained.Pretrained:
    """Fold an adapter into a network, which can then be used like any other.

    Where its head `decides`, it becomes the classifier; any other head, such as one of
    cosines, cannot be a part of the network, which keeps its own classifier.

    Raises:
        ValueError: The adapter is for another network.
    """
    file.check(adapter, network.name, network.variables)
    leaves = tree.flatten(filters.fold(network.variables, adapter.weights))
    module, names = network.module, network.class_names
    if decides(adapter, network):
        leaves |= {file.HEAD + name: leaf for name, leaf in adapter.head.items()}
        classes = len(adapter.head["bias"])
        module = module.clone(num_classes=classes)
        names = tuple(map(str, adapter.metadata.get("class_names", ())))
        if len(names) != classes:
            names = tuple(f"class {index}" for index in range(classes))
    changed = pretrained.changed(network, module, tree.unflatten(leaves))
    return changed._replace(class_names=names)
