"""Networks round a backbone: they decide by parts, or pool by attention."""

from unlir_jax.core.document_types import Document, Record
from unlir_jax.models import attention_pooling, part_network
from unlir_jax.models.backbone import Network
from unlir_jax.types import Module


def pools(wanted: Document) -> bool:
    """Tell whether a decision is one by attention pooling."""
    return wanted.get("name") in attention_pooling.POOLS


def assemble(
    backbone: Module, wanted: Document, classes: int, network: Network
) -> Module:
    """Build a network round a backbone.

    Args:
        backbone: A network of ours.
        wanted: See `part_network.assemble` and `attention_pooling.assemble`; `name`
            says which.
        classes: Number of classes.
        network: Entry of the backbone in the zoo.

    Raises:
        ValueError: See these two.
    """
    if not pools(wanted):
        return part_network.assemble(backbone, wanted, classes, network.image_size)
    own = network.stages
    return attention_pooling.assemble(
        backbone, wanted, classes, network.image_size, own
    )


def specification(module: Module) -> Record:
    """Describe what is round a backbone so that `assemble` builds it again.

    Returns:
        {} for a network that is nothing but itself.
    """
    return part_network.specification(module) or attention_pooling.specification(module)


def keeps_classifier(module: Module, new: Module) -> bool:
    """Tell whether a network's classifier can be that of one that is built round it.

    A classifier of pooled maps stays where attention pools instead.
    """
    own = getattr(module, "backbone", module)
    wrapped = own is not module and not attention_pooling.specification(module)
    return (
        hasattr(own, "pooling")
        and not wrapped
        and bool(attention_pooling.specification(new))
    )
