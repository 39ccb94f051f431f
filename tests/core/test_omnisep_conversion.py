"""OmniSep's checkpoints become separators that work, whatever their layers' names."""

import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.bundle import load_bundle
from marssep_jax.config import FrontendConfig, SeparatorConfig, from_dict
from marssep_jax.conversion import omnisep
from marssep_jax.conversion.apply import MismatchError, apply_rules
from marssep_jax.conversion.convert import convert
from marssep_jax.inference import Separator, separate
from marssep_jax.inspection import describe, render
from marssep_jax.models import make_separator
from marssep_jax.queries import Query
from tests.support.omnisep_keys import (
    EMBED_DIM,
    NUM_CHANNELS,
    WIDTHS,
    checkpoint,
    checkpoint_shapes,
)
from tests.support.torch_zip import write_torch

CONFIG = SeparatorConfig("omnisep", EMBED_DIM, NUM_CHANNELS, WIDTHS)
PUBLISHED = {
    "widths": (64, 128, 256, 512, 512, 512, 512),
    "num_channels": 32,
    "embed_dim": 1024,
}
# Logits of the PyTorch network in tests/parity/test_omnisep.py, same weights.
GOLDEN = {
    (0, 0, 0, 0): -0.787996,
    (0, 0, 100, 10): -1.489765,
    (0, 1, 255, 47): 0.304258,
    (1, 2, 128, 24): 0.110043,
    (1, 0, 30, 5): -4.952724,
    (1, 1, 17, 33): -0.930493,
}
GOLDEN_MEAN, GOLDEN_STD = -2.223814, 1.837351


def converted(state):
    config = omnisep.configure(state)
    return config, apply_rules(omnisep.rules(state), state, omnisep.shapes(config))


def logits_of(config, params, model_state):
    generator = np.random.default_rng(1)
    log_mag = 2 * generator.standard_normal((2, 256, 48)) - 3
    query = generator.standard_normal((2, 3, EMBED_DIM))
    logits, _ = make_separator(config).apply(
        params,
        model_state,
        jnp.asarray(log_mag, jnp.float32),
        jnp.asarray(query, jnp.float32),
    )
    return np.asarray(logits)


def assert_golden(logits):
    found = [logits[place] for place in GOLDEN]
    # Float32, logits up to 10, sums in another order.
    np.testing.assert_allclose(found, list(GOLDEN.values()), atol=1e-4)
    np.testing.assert_allclose(logits.mean(), GOLDEN_MEAN, atol=1e-4)
    np.testing.assert_allclose(logits.std(), GOLDEN_STD, atol=1e-4)


def test_golden_logits_through_a_file_and_a_bundle(tmp_path):
    source = write_torch(tmp_path / "best.pth", checkpoint())
    done = convert("omnisep", source, tmp_path / "ours")
    bundle = load_bundle(tmp_path / "ours")
    assert from_dict(SeparatorConfig, bundle.config["separator"]) == CONFIG
    assert from_dict(FrontendConfig, bundle.config["frontend"]) == FrontendConfig()
    assert bundle.config["source"] == done.source
    assert_golden(logits_of(CONFIG, bundle.separator_params, bundle.model_state))
    shown = render(describe(tmp_path / "ours"))
    for part in ("converted (omnisep)", done.source["sha256"]["best.pth"], "16000"):
        assert part in shown


def renamed(state):
    """Call everything inside the groups something else; count layers from 7 on."""

    def rename(key):
        key = key.removeprefix("module.").replace("unet_block", "net")
        key = key.replace(".model.", ".layers.").replace("bn0", "entry")
        parts = [str(int(p) + 7) if p.isdigit() else p for p in key.split(".")]
        return ".".join(parts).replace("fc.", "projection.").replace("scale", "gain")

    return {rename(key): value for key, value in sorted(state.items())}


def test_layers_are_told_by_their_place_not_their_name():
    state = renamed(checkpoint())
    assert "sound_net.net.layers.8.layers.13.weight" in state  # 13 comes after 8
    config, found = converted(state)
    tree = found.tree()
    assert_golden(logits_of(config, tree["params"], tree["model_state"]))
    assert len(found.report.dropped) == 2 * len(WIDTHS) - 2  # batches counted by norms


def test_published_sizes():
    shapes = checkpoint_shapes(**PUBLISHED, prefix="")
    state = {k: np.broadcast_to(np.float32(0), shape) for k, shape in shapes.items()}
    config, found = converted(state)
    assert config == SeparatorConfig()
    trained = found.num_bytes // 4 - 7_810  # the running statistics
    assert trained == 30_307_043
    assert found.report.fits


def test_one_channel():
    """Scale and bias of the head are then told by name alone."""
    state = checkpoint(num_channels=1, prefix="")
    _, found = converted(state)
    tree = found.tree()["params"]
    np.testing.assert_array_equal(tree["gate"]["scale"], state["synth_net.scale"])
    np.testing.assert_array_equal(tree["bias"], state["synth_net.bias"][0])


@pytest.mark.parametrize(
    ("group", "reason"),
    [
        ("sound_net", "no key begins with 'sound_net'"),
        ("frame_net", "no key begins with 'frame_net'"),
        ("synth_net", "no key begins with 'synth_net'"),
    ],
)
def test_groups_that_are_missing(tmp_path, group, reason):
    state = {k: v for k, v in checkpoint(prefix="").items() if not k.startswith(group)}
    refused(tmp_path, state, reason)


def refused(folder, state, reason, error=ValueError):
    source = write_torch(folder / "a.pth", state)
    with pytest.raises(error, match="source is ") as caught:
        convert("omnisep", source, folder / "ours")
    text = str(caught.value)
    expected = f"source is {str(source)!r}, expected the weights of OmniSep's separator"
    assert text.startswith(expected)
    assert "\n" not in text
    assert reason in text
    assert not (folder / "ours").exists()


def test_other_networks(tmp_path):
    state = checkpoint(prefix="")
    lacking = {k: v for k, v in state.items() if ".4.weight" not in k}
    refused(tmp_path, lacking, "'sound_net' has 6 convolutions and 6 norms, not those")
    more = state | {"frame_net.second.weight": np.ones((3, 3), np.float32)}
    refused(tmp_path, more, "'frame_net' holds 2 matrices, not one")
    other = state | {"synth_net.noise": np.ones(9, np.float32)}
    with pytest.raises(RuntimeError, match=r"'synth_net\.noise'"):
        converted(other)
    key = "sound_net.unet_block.model.1.model.2.bias"
    wrong = state | {key: np.ones(3, np.float32)}
    refused(tmp_path, wrong, f"1 of another shape: {key} is float32 [3]", MismatchError)


def test_half_the_size(tmp_path):
    state = checkpoint(prefix="")  # weights are drawn by name: the same on both sides
    source = write_torch(tmp_path / "best.pth", state)
    convert("omnisep", source, tmp_path / "ours", dtype="bfloat16")
    bundle = load_bundle(tmp_path / "ours")
    assert bundle.separator_params["gate"]["Dense_0"]["kernel"].dtype == jnp.bfloat16
    logits = logits_of(CONFIG, bundle.separator_params, bundle.model_state)
    tree = converted(state)[1].tree()
    whole = logits_of(CONFIG, tree["params"], tree["model_state"])
    assert 0.999 < np.corrcoef(logits.ravel(), whole.ravel())[0, 1] < 1


@pytest.fixture
def separator(tmp_path):
    source = write_torch(tmp_path / "best.pth", checkpoint())
    convert("omnisep", source, tmp_path / "ours")
    return Separator.load(tmp_path / "ours")


def test_a_converted_separator_separates_by_vectors(separator):
    mixture = np.random.default_rng(0).uniform(-0.3, 0.3, 20_000).astype(np.float32)
    query = Query(jnp.linspace(-1, 1, EMBED_DIM))
    found = separate(separator.bundle, mixture, 16_000, query)
    np.testing.assert_allclose(found.estimate + found.residual, mixture, atol=1e-6)
    assert 0 < found.mask.min() < found.mask.max() < 1
    assert found.mask.shape[0] == 256


def test_a_converted_separator_understands_no_words(separator):
    with pytest.raises(ValueError, match="checkpoint has no encoder, expected one"):
        separator.embed(text="violin")
