"""Weights by name, so that golden numbers need no stored file, and their conversion."""

import re
import zlib
from collections import Counter

import numpy as np
from flax import traverse_util

from marssep_jax.conversion.rules import TRANSFORMS

INITIAL_LOG_SCALE = np.float32(np.log(1 / 0.07))


def rule_weight(key, shape):
    """Draw the weight that the golden numbers were made with: key is the seed."""
    if not shape:
        return INITIAL_LOG_SCALE
    draw = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    draw = draw.astype(np.float32)
    if len(shape) > 1:
        return np.float32(0.05) * draw
    if key.endswith("running_var"):
        return 1 + np.float32(0.1) * np.abs(draw)
    offset = np.float32(key.endswith("weight"))
    return offset + np.float32(0.1) * draw


def rule_state(shapes):
    """Return the weights of a whole model, given the shape of every key."""
    return {key: rule_weight(key, shape) for key, shape in shapes.items()}


def convert(rules, published):
    """Apply rules to a published state; every key must match exactly one."""
    parts = {}
    for key, value in published.items():
        (found,) = [rule for rule in rules if re.fullmatch(rule.pattern, key)]
        if not found.target:
            continue
        path = re.fullmatch(found.pattern, key).expand(found.target)
        pieces = parts.setdefault(path, [None] * found.part[1])
        assert pieces[found.part[0]] is None, f"{key} is there twice"
        pieces[found.part[0]] = TRANSFORMS[found.transform](np.asarray(value))
    flat = {
        tuple(path.split("/")): pieces[0]
        if len(pieces) == 1
        else np.concatenate(pieces, axis=-1)
        for path, pieces in parts.items()
    }
    return traverse_util.unflatten_dict(flat)


def shapes_of(tree):
    """Return path to shape, of arrays or of what ``jax.eval_shape`` returns."""
    flat = traverse_util.flatten_dict(tree, sep="/")
    return {path: leaf.shape for path, leaf in flat.items()}


def count(shapes, *, without=()):
    """Sum sizes by first level; leaves named in ``without`` do not count."""
    total = Counter()
    for path, shape in shapes.items():
        if path.rsplit("/", 1)[-1] not in without:
            total[path.split("/", 1)[0]] += int(np.prod(shape))
    return dict(total)
