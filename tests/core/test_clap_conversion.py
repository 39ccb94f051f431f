"""CLAP's published keys: every one known, every parameter of ours filled."""

import re
from collections import Counter

import jax
import numpy as np
import pytest

from marssep_jax.conversion.clap import HUGGING_FACE, LAION
from marssep_jax.encoders.clap import (
    HTSAT_BASE,
    HTSAT_TINY,
    HTSAT_TINY_FUSED,
    make_clap,
)
from tests.support.clap_keys import hugging_face_shapes, to_laion
from tests.support.clap_sizes import golden, small
from tests.support.published import convert, rule_state, shapes_of


@pytest.mark.parametrize(
    ("config", "num_keys"),
    [
        (HTSAT_TINY, 447),
        (HTSAT_TINY_FUSED, 477),
        # Six blocks more, of 18 entries each.
        (HTSAT_BASE, 447 + 6 * 18),
    ],
    ids=["tiny", "tiny fused", "base"],
)
def test_every_published_key_fills_one_place(config, num_keys):
    shapes = hugging_face_shapes(config)
    assert len(shapes) == num_keys
    # Shapes only: no memory is behind these arrays.
    state = {key: np.broadcast_to(np.int8(0), shape) for key, shape in shapes.items()}
    expected = jax.eval_shape(make_clap(config).init, jax.random.key(0))
    assert shapes_of(convert(HUGGING_FACE, state)) == shapes_of(expected)


@pytest.mark.parametrize("rules", [HUGGING_FACE, LAION])
def test_every_rule_is_used(rules):
    """A rule without a key would be a misspelt one."""
    config = golden(True)
    state = rule_state(hugging_face_shapes(config))
    keys = state if rules is HUGGING_FACE else to_laion(state)
    used = Counter(
        rule.pattern
        for rule in rules
        for key in keys
        if re.fullmatch(rule.pattern, key)
    )
    assert set(used) == {rule.pattern for rule in rules}


@pytest.mark.parametrize("fused", [False, True], ids=["unfused", "fused"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_both_sources_become_one_tree(fused, prefix):
    state = rule_state(hugging_face_shapes(small(fused)))
    from_hugging_face = convert(HUGGING_FACE, state)
    from_laion = convert(LAION, to_laion(state, prefix))
    assert shapes_of(from_laion) == shapes_of(from_hugging_face)
    jax.tree.map(np.testing.assert_array_equal, from_laion, from_hugging_face)


def test_packed_projection_is_query_key_value():
    config = small(False)
    state = rule_state(hugging_face_shapes(config))
    block = convert(HUGGING_FACE, state)["audio"]["stage_1_block_0"]["block"]
    key = "audio_model.audio_encoder.layers.1.blocks.0.attention.self"
    for index, name in enumerate(("query", "key", "value")):
        part = slice(16 * index, 16 * (index + 1))
        packed = block["attention"]["qkv"]
        np.testing.assert_array_equal(
            packed["kernel"][:, part], state[f"{key}.{name}.weight"].T
        )
        np.testing.assert_array_equal(packed["bias"][part], state[f"{key}.{name}.bias"])
