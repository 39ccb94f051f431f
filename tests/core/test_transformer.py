"""The shared transformer blocks against attention written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.transformer import Attention, PostNormBlock, PreNormBlock


def softmax(logits):
    weight = np.exp(logits - logits.max(-1, keepdims=True))
    return weight / weight.sum(-1, keepdims=True)


def attend(params, value, bias, heads):
    """Attention of one sequence [l, d], head by head."""
    packed = value @ params["qkv"]["kernel"] + params["qkv"]["bias"]
    query, key, content = np.split(packed, 3, axis=-1)
    if "extra_key" in params:
        key = np.concatenate([key, params["extra_key"]])
        content = np.concatenate([content, params["extra_value"]])
    size, parts = value.shape[-1] // heads, []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        logits = query[:, part] @ key[:, part].T / np.sqrt(size) + bias[head]
        parts.append(softmax(logits) @ content[:, part])
    return np.concatenate(parts, -1) @ params["out"]["kernel"] + params["out"]["bias"]


@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize("lead", [(2,), (2, 3)])
def test_attention(extra, lead):
    draw = np.random.default_rng(0)
    value = draw.standard_normal((*lead, 5, 8)).astype(np.float32)
    # Per head, and for all sequences or each of the last leading axis.
    shape = (*lead[1:], 2, 5, 5 + extra)
    bias = draw.standard_normal(shape).astype(np.float32)
    module = Attention(num_heads=2, extra_key_value=extra)
    params = module.init(jax.random.key(1), jnp.asarray(value))["params"]
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    found = module.apply({"params": params}, jnp.asarray(value), jnp.asarray(bias))
    plain = jax.tree.map(np.asarray, params)
    for place in np.ndindex(lead):
        expected = attend(plain, value[place], bias[place[1:]], 2)
        np.testing.assert_allclose(found[place], expected, atol=1e-5)


@pytest.mark.parametrize("block", [PreNormBlock, PostNormBlock])
def test_leading_axes_of_blocks_are_free(block):
    module = block(num_heads=2, mlp_width=12, eps=1e-6)
    value = jax.random.normal(jax.random.key(0), (2, 3, 5, 8))
    params = module.init(jax.random.key(1), value)
    flat = module.apply(params, value.reshape(6, 5, 8))
    np.testing.assert_allclose(
        module.apply(params, value).reshape(6, 5, 8), flat, atol=1e-6
    )
