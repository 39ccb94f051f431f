"""Short hashes of what results depend on."""

import hashlib

import jax
import numpy as np

from marssep_jax.types import Params


def hash_tree(described: str, tree: Params) -> str:
    """Return a short hash of arrays by name, and of what is said of them."""
    digest = hashlib.sha256(described.encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        shape = f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}"
        digest.update(shape.encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]
