"""The networks against OmniSep's published shapes, and what a mask depends on."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.config import FrontendConfig, SeparatorConfig
from marssep_jax.models import make_separator
from marssep_jax.models.compact import GatedHead
from marssep_jax.models.separator import count_parameters
from marssep_jax.models.unet import UNet

pytestmark = pytest.mark.usefixtures("quick_compile")

ROWS = FrontendConfig(num_rows=16)
TINY = {
    "omnisep": SeparatorConfig("omnisep", 5, 4, (4, 6, 8)),
    "compact": SeparatorConfig("compact", 5, 4, (8, 16, 16)),
}
# Down: 4x4 kernels; up: 3x3 kernels that read the level below and, but for the
# innermost, as many channels of the skip.
PUBLISHED_KERNELS = {
    "down_1": (4, 4, 1, 64),
    "down_2": (4, 4, 64, 128),
    "down_3": (4, 4, 128, 256),
    "down_4": (4, 4, 256, 512),
    "down_5": (4, 4, 512, 512),
    "down_6": (4, 4, 512, 512),
    "down_7": (4, 4, 512, 512),
    "up_7": (3, 3, 512, 512),
    "up_6": (3, 3, 1024, 512),
    "up_5": (3, 3, 1024, 512),
    "up_4": (3, 3, 1024, 256),
    "up_3": (3, 3, 512, 128),
    "up_2": (3, 3, 256, 64),
    "up_1": (3, 3, 128, 32),
}
PUBLISHED_NORMS = {
    "entry_norm": 1,
    "down_norm_2": 128,
    "down_norm_3": 256,
    "down_norm_4": 512,
    "down_norm_5": 512,
    "down_norm_6": 512,
    "up_norm_7": 512,
    "up_norm_6": 512,
    "up_norm_5": 512,
    "up_norm_4": 256,
    "up_norm_3": 128,
    "up_norm_2": 64,
}


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def unit_queries(*shape, seed=1):
    query = noise(*shape, seed=seed)
    return query / np.linalg.norm(query, axis=-1, keepdims=True)


def assert_equal_masks(left, right):
    """Compare logits: float32 sums in another order, against the largest logit."""
    left, right = np.asarray(left), np.asarray(right)
    np.testing.assert_allclose(left, right, atol=1e-5 * np.abs(right).max())


def shapes_of(config):
    """Return the parameters' and the state's shapes; nothing is computed."""
    init = partial(make_separator(config).init, frontend=FrontendConfig())
    return jax.eval_shape(init, jax.random.key(0))


@pytest.fixture(scope="module")
def published():
    return shapes_of(SeparatorConfig())


@cache
def build(architecture):
    """Return a small separator's jitted apply, parameters and state."""
    separator = make_separator(TINY[architecture])
    params, state = separator.init(jax.random.key(0), ROWS)
    # The published start is flat: kernels of 0.001 leave masks at one half. Tests
    # need masks that differ.
    params = jax.tree.map(lambda p: p + 0.3 * noise(*p.shape, seed=p.size), params)
    return jax.jit(separator.apply, static_argnames="train"), params, state


@pytest.fixture(params=list(TINY))
def tiny(request):
    """A small separator of either kind."""
    return build(request.param)


def scene(num_frames=16):
    """Two mixtures' log magnitudes and three queries in each."""
    return noise(2, 16, num_frames), unit_queries(2, 3, 5)


def test_published_parameter_counts(published):
    params, _ = published
    assert count_parameters(params) == 30_307_043
    assert count_parameters(params["unet"]) == 30_274_210
    # 1024 x 32 + 32 of the projection, 32 scales and one bias of the head.
    assert count_parameters(params["gate"]) == 32_800 + 32
    assert count_parameters(params["bias"]) == 1


def test_published_kernels(published):
    unet = published[0]["unet"]
    kernels = {name: unet[name]["kernel"].shape for name in PUBLISHED_KERNELS}
    assert kernels == PUBLISHED_KERNELS
    assert set(unet) == set(PUBLISHED_KERNELS) | set(PUBLISHED_NORMS)
    # Only the last convolution has a bias.
    biased = [name for name in PUBLISHED_KERNELS if "bias" in unet[name]]
    assert biased == ["up_1"]
    assert published[0]["gate"]["Dense_0"]["kernel"].shape == (1024, 32)


def test_published_batch_norms(published):
    params, state = published
    assert {n: p["mean"].shape[0] for n, p in state["unet"].items()} == PUBLISHED_NORMS
    assert count_parameters(state) == 7_810
    for name, size in PUBLISHED_NORMS.items():
        assert params["unet"][name]["scale"].shape == (size,)
        assert params["unet"][name]["bias"].shape == (size,)


@pytest.mark.parametrize(
    ("levels", "expected"), [(5, 12_444_322), (6, 21_359_266), (8, 39_189_154)]
)
def test_published_parameter_counts_at_other_depths(levels, expected):
    widths = (64, 128, 256, *[512] * (levels - 3))
    params, _ = shapes_of(SeparatorConfig(embed_dim=512, widths=widths))
    assert count_parameters(params["unet"]) == expected
    assert count_parameters(params) == expected + 16_416 + 33


def test_published_mask_covers_the_clip(published):
    separator = make_separator(SeparatorConfig())
    shape = jax.ShapeDtypeStruct
    logits, _ = jax.eval_shape(
        separator.apply,
        *published,
        shape((2, 256, 256), jnp.float32),
        shape((2, 3, 1024), jnp.float32),
    )
    assert logits.shape == (2, 3, 256, 256)


def test_omnisep_starts_as_published():
    separator = make_separator(SeparatorConfig("omnisep", 512, 32, (16, 32, 64)))
    params, _ = separator.init(jax.random.key(0), ROWS)
    unet, gate = params["unet"], params["gate"]
    # 8192 draws or more each: the standard error of a deviation is 0.8 %.
    for name in ("down_2", "down_3", "up_3", "up_2", "up_1"):
        assert np.std(unet[name]["kernel"]) == pytest.approx(1e-3, rel=0.04)
    assert np.std(gate["Dense_0"]["kernel"]) == pytest.approx(1e-4, rel=0.04)
    # PyTorch's bound 1/sqrt(fan_in): 9 x 32 channels, 512 entries.
    for bias, fan_in in ((unet["up_1"]["bias"], 288), (gate["Dense_0"]["bias"], 512)):
        bound = fan_in**-0.5
        assert 0.8 * bound < np.abs(bias).max() <= bound
    np.testing.assert_array_equal(gate["scale"], np.ones(32))
    scale = unet["down_norm_2"]["scale"]
    assert np.abs(scale - 1).max() < 5 * 0.02
    assert np.std(scale) > 0.005


def interpolate(values):
    """Double the last axis: output i reads input i (n - 1) / (2 n - 1)."""
    size = values.shape[-1]
    reads = np.arange(2 * size) * (size - 1) / (2 * size - 1)
    flat = values.reshape(-1, size)
    rows = [np.interp(reads, np.arange(size), row) for row in flat]
    wide = np.stack(rows).reshape(*values.shape[:-1], 2 * size)
    return wide.astype(np.float32)


def convolve(value, kernel, stride):
    """Convolve channels first, as PyTorch does: padding 1 at every edge."""
    weight = np.transpose(kernel, (3, 2, 0, 1))
    padding, strides = [(1, 1), (1, 1)], (stride, stride)
    out = jax.lax.conv_general_dilated(jnp.asarray(value), weight, strides, padding)
    return np.asarray(out)


def doubled(value):
    wide = interpolate(value)
    return np.swapaxes(interpolate(np.swapaxes(wide, -1, -2)), -1, -2)


def test_unet_follows_the_published_order_of_operations():
    """Three levels, written out channels first; norms pass (almost) unchanged.

    Running mean 0 and variance 1 leave gain / sqrt(1 + 1e-5) and shift.
    """
    net = UNet((4, 6, 8), 5)
    log_mag = noise(2, 8, 16)
    gate = jnp.broadcast_to(jnp.eye(5), (2, 5, 5))  # each takes one channel
    variables = jax.jit(partial(net.init, train=False))(
        jax.random.key(0), jnp.asarray(log_mag), gate
    )
    params = jax.tree.map(lambda p: noise(*p.shape, seed=p.size), variables["params"])
    variables = {**variables, "params": params}
    ours = net.apply(variables, jnp.asarray(log_mag), gate, False)

    def norm(value, name):
        gain, shift = (params[name][n][:, None, None] for n in ("scale", "bias"))
        return value / np.sqrt(1 + 1e-5) * gain + shift

    def leaky(value):
        return np.where(value > 0, value, 0.2 * value)

    def kernel(name):
        return params[name]["kernel"]

    start = norm(log_mag[:, None], "entry_norm")
    down_1 = convolve(start, kernel("down_1"), 2)
    down_2 = norm(convolve(leaky(down_1), kernel("down_2"), 2), "down_norm_2")
    down_3 = convolve(leaky(down_2), kernel("down_3"), 2)
    up_3 = convolve(doubled(np.maximum(down_3, 0)), kernel("up_3"), 1)
    both = np.concatenate([down_2, norm(up_3, "up_norm_3")], axis=1)
    up_2 = convolve(doubled(np.maximum(both, 0)), kernel("up_2"), 1)
    both = np.concatenate([down_1, norm(up_2, "up_norm_2")], axis=1)
    up_1 = convolve(doubled(np.maximum(both, 0)), kernel("up_1"), 1)
    assert_equal_masks(ours, up_1 + params["up_1"]["bias"][:, None, None])


def test_one_mask_a_query_on_the_mixtures_grid(tiny):
    apply, params, state = tiny
    logits, _ = apply(params, state, *scene())
    assert logits.shape == (2, 3, 16, 16)
    assert logits.dtype == jnp.float32
    # The masks of two queries are different masks.
    assert np.abs(logits[:, 0] - logits[:, 1]).max() > 1e-3


@pytest.mark.parametrize(("num_frames", "padding"), [(1, 7), (13, 3)])
def test_frames_are_padded_by_the_last_and_cropped(tiny, num_frames, padding):
    apply, params, state = tiny
    log_mag, query = scene(num_frames)
    logits, _ = apply(params, state, log_mag, query)
    assert logits.shape == (2, 3, 16, num_frames)
    # Three levels: multiples of 8.
    padded = np.concatenate([log_mag, *[log_mag[..., -1:]] * padding], axis=-1)
    whole, _ = apply(params, state, padded, query)
    assert_equal_masks(logits, whole[..., :num_frames])


def test_a_querys_mask_does_not_depend_on_the_others(tiny):
    apply, params, state = tiny
    log_mag, query = scene()
    logits, _ = apply(params, state, log_mag, query)
    changed = query.copy()
    changed[:, 1] = unit_queries(2, 5, seed=9)
    other, _ = apply(params, state, log_mag, changed)
    assert_equal_masks(logits[:, ::2], other[:, ::2])
    assert np.abs(logits[:, 1] - other[:, 1]).max() > 1e-3
    alone, _ = apply(params, state, log_mag, query[:, 2:])
    assert_equal_masks(logits[:, 2:], alone)


def test_mixtures_do_not_depend_on_each_other(tiny):
    apply, params, state = tiny
    log_mag, query = scene()
    logits, _ = apply(params, state, log_mag, query)
    other, _ = apply(params, state, np.stack([log_mag[0], -log_mag[1]]), query)
    assert_equal_masks(logits[0], other[0])


def test_statistics_move_in_training_only():
    apply, params, state = build("omnisep")
    log_mag, query = scene()
    log_mag = 2.0 + 3.0 * log_mag
    _, kept = apply(params, state, log_mag, query)
    jax.tree.map(np.testing.assert_array_equal, kept, state)
    _, moved = apply(params, state, log_mag, query, train=True)
    entry = moved["unet"]["entry_norm"]
    # Nine tenths of the old (0 and 1), one of the batch's own.
    np.testing.assert_allclose(entry["mean"], 0.1 * log_mag.mean(), rtol=1e-5)
    np.testing.assert_allclose(entry["var"], 0.9 + 0.1 * log_mag.var(), rtol=1e-5)
    for name, part in moved["unet"].items():
        assert np.any(part["mean"] != state["unet"][name]["mean"]), name
        assert np.any(part["var"] != state["unet"][name]["var"]), name


def test_compact_has_no_statistics_and_ignores_training():
    apply, params, state = build("compact")
    assert state == {}
    plain, _ = apply(params, state, *scene())
    trained, after = apply(params, state, *scene(), train=True)
    assert after == {}
    np.testing.assert_array_equal(plain, trained)


def test_compact_hears_the_same_at_every_level():
    apply, params, state = build("compact")
    log_mag, query = scene()
    loud, _ = apply(params, state, log_mag + np.log(10.0, dtype=np.float32), query)
    plain, _ = apply(params, state, log_mag, query)
    # log(10) added and taken away again: rounding of 1e-7 before a few layers.
    np.testing.assert_allclose(loud, plain, atol=1e-4)


@pytest.mark.parametrize("architecture", list(TINY))
def test_rows_must_divide(architecture):
    separator = make_separator(TINY[architecture])
    with pytest.raises(ValueError, match="num_rows is 20, expected a multiple of 8"):
        separator.init(jax.random.key(0), FrontendConfig(num_rows=20))


def test_unknown_architecture_is_named():
    with pytest.raises(ValueError, match="architecture is 'resnet', expected"):
        SeparatorConfig("resnet")


def test_gated_head_equals_its_unfused_formula():
    """A 1x1 layer to 4 C channels, the gate, the sum, the pixel shuffle."""
    hidden, gate = noise(2, 3, 5, 6), np.abs(noise(2, 4, 7, seed=1))
    head = GatedHead(7)
    args = jnp.asarray(hidden), jnp.asarray(gate)
    params = jax.jit(head.init)(jax.random.key(0), *args)["params"]
    params["bias"] = noise(4, 7, seed=2)
    spread = hidden @ np.asarray(params["kernel"]).reshape(6, 28)
    spread = (spread + params["bias"].reshape(28)).reshape(2, 3, 5, 4, 7)
    expected = np.zeros((2, 4, 6, 10), np.float32)
    for place in range(4):
        row, column = divmod(place, 2)
        logits = np.einsum("bijc,bkc->bkij", spread[..., place, :], gate)
        expected[:, :, row::2, column::2] = logits
    np.testing.assert_allclose(
        head.apply({"params": params}, *args), expected, atol=1e-5
    )
