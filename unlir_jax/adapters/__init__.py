"""Adapters: what was learnt for one task on a frozen network, in small files."""

from unlir_jax.adapters.arithmetic import LayerDifference as LayerDifference
from unlir_jax.adapters.arithmetic import diff as diff
from unlir_jax.adapters.arithmetic import merge as merge
from unlir_jax.adapters.arithmetic import stack as stack
from unlir_jax.adapters.file import Adapter as Adapter
from unlir_jax.adapters.file import check as check
from unlir_jax.adapters.file import fingerprint as fingerprint
from unlir_jax.adapters.file import load as load
from unlir_jax.adapters.file import save as save
from unlir_jax.adapters.network import apply as apply
from unlir_jax.adapters.network import decides as decides
from unlir_jax.adapters.network import weigh as weigh
