"""ImageBind's published keys and sizes, and where each tensor goes."""

import re
from collections import Counter

import jax
import numpy as np
import pytest

from marssep_jax.conversion.imagebind import IMAGEBIND_RULES
from marssep_jax.encoders.imagebind import ImageBindConfig, make_imagebind
from tests.support.imagebind_keys import published_shapes
from tests.support.published import convert, count, rule_weight, shapes_of

SMALL = ImageBindConfig(
    embed_dim=8,
    **{"audio_width": 12, "audio_blocks": 1, "audio_heads": 2},
    **{"image_width": 6, "image_blocks": 3, "image_heads": 2},
    **{"text_width": 10, "text_blocks": 2, "text_heads": 2},
)
HUGE = ImageBindConfig()


def shapes_of_ours(config):
    """Shapes of the parameters; nothing is computed or kept in memory."""
    return shapes_of(jax.eval_shape(make_imagebind(config).init, jax.random.key(0)))


@pytest.fixture(scope="module")
def huge():
    return shapes_of_ours(HUGE)


def test_weights_by_name():
    head = rule_weight("modality_heads.audio.2.weight", (32, 48))
    np.testing.assert_allclose(head.flat[:3], [0.0775673, 0.0452539, -0.0064267], 1e-5)
    norm = rule_weight("modality_heads.audio.0.weight", (48,))
    np.testing.assert_allclose(norm[:2], [1.0482875, 1.3271621], 1e-6)


def test_published_parameter_counts(huge):
    counts = count(huge)
    assert counts == {
        "audio": 374_784 + 85_072_896,
        "audio_head": 787_968,
        "image": 1_835_520 + 629_680_640,
        "image_head": 1_313_280,
        "text": 50_672_640 + 302_309_376,
        "text_head": 1_050_624,
        "log_temperature": 1,
    }
    assert sum(counts.values()) == 1_073_097_729


def test_published_key_counts():
    kinds = Counter(key.split(".")[1] for key in published_shapes(HUGE))
    assert kinds == {"audio": 177, "vision": 392, "text": 295}


@pytest.mark.parametrize("size", ["small", "huge"])
def test_every_key_has_its_place(size, huge):
    """Both ways: nothing of theirs is lost, and nothing of ours stays random."""
    config, ours = (HUGE, huge) if size == "huge" else (SMALL, shapes_of_ours(SMALL))
    # A view of one number has any shape and takes no memory.
    published = {
        key: np.broadcast_to(np.float32(0), shape)
        for key, shape in published_shapes(config).items()
    }
    assert shapes_of(convert(IMAGEBIND_RULES, published)) == ours


def test_the_learnt_scale_becomes_a_temperature():
    key = "modality_postprocessors.text.1.log_logit_scale"
    tree = convert(IMAGEBIND_RULES, {key: np.asarray(4.6052, np.float32)})
    scales = make_imagebind(SMALL).scales(tree)
    assert float(scales["text"]) == pytest.approx(100.0, rel=1e-4)


@pytest.mark.parametrize(
    "key",
    [
        "modality_preprocessors.text.mask",
        "modality_preprocessors.depth.cls_token",
        "modality_trunks.imu.blocks.3.attn.in_proj_weight",
        "modality_heads.thermal.2.weight",
        "modality_postprocessors.imu.1.log_logit_scale",
    ],
)
def test_what_is_known_and_left_out(key):
    (rule,) = [rule for rule in IMAGEBIND_RULES if re.fullmatch(rule.pattern, key)]
    assert rule.target == ""


@pytest.mark.parametrize(
    "key",
    [
        "modality_trunks.vision.blocks.0.attn.bias_k",  # of audio alone
        "modality_trunks.text.pre_transformer_layer.0.weight",  # of vision alone
        "modality_heads.audio.2.bias",
        "audio.cls_token",
    ],
)
def test_unknown_keys_have_no_rule(key):
    assert not [rule for rule in IMAGEBIND_RULES if re.fullmatch(rule.pattern, key)]
