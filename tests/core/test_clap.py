"""CLAP: the reference's numbers, and what the functions promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.conversion.clap import HUGGING_FACE
from marssep_jax.encoders.clap import (
    HTSAT_BASE,
    HTSAT_TINY,
    HTSAT_TINY_FUSED,
    make_clap,
)
from tests.support.clap_keys import hugging_face_shapes
from tests.support.clap_sizes import golden, small
from tests.support.published import convert, count, rule_state, rule_weight, shapes_of

pytestmark = pytest.mark.usefixtures("quick_compile")

IDS = np.array([[0, 5, 6, 7, 2, 1], [0, 9, 8, 2, 1, 1]])
# Items of the fused reference: the first is longer than a window.
LONGER = np.array([True, False])

GOLDEN_AUDIO = {
    False: [
        [-0.070055, -0.383262, -0.186477, -0.004966, 0.001967, 0.059682],
        [-0.067786, -0.384995, -0.182920, 0.006334, 0.003514, 0.073759],
    ],
    True: [
        [-0.075733, -0.269504, -0.122278, -0.066216, -0.010468, 0.027184],
        [-0.069546, -0.379253, -0.186205, -0.000147, 0.000576, 0.062254],
    ],
}
GOLDEN_TEXT = [
    [-0.390630, -0.111579, 0.058418, 0.076850, -0.489732, -0.113047],
    [-0.390475, -0.112312, 0.058608, 0.077714, -0.491075, -0.112714],
]
GOLDEN_LOGITS = [[-4.049344, -4.033999], [-3.955838, -3.940581]]


def features(config, *lead, num_frames=None, seed=4):
    audio = config.audio
    views = (4,) if audio.fused else ()
    shape = (*lead, *views, num_frames or audio.num_frames - 6, audio.num_mel_bins)
    draw = np.random.default_rng(seed).standard_normal(shape)
    return (20 * draw - 30).astype(np.float32)


def published_params(config):
    return convert(HUGGING_FACE, rule_state(hugging_face_shapes(config)))


@pytest.fixture(scope="module", params=[False, True], ids=["unfused", "fused"])
def fused(request):
    return request.param


def _made(fused):
    """A small CLAP, its functions jitted, with weights that are all different."""
    config = small(fused)
    clap = make_clap(config)
    names = ("audio", "text", "audio_tower", "text_tower", "audio_head", "text_head")
    jitted = {name: jax.jit(getattr(clap, name)) for name in names}
    return config, clap._replace(**jitted), published_params(config)


@pytest.fixture(scope="module")
def made(fused):
    return _made(fused)


@pytest.fixture(scope="module")
def plain():
    return _made(False)


def test_weights_by_name_are_the_references():
    draw = rule_weight("modality_heads.audio.2.weight", (32, 48))
    np.testing.assert_allclose(
        draw[0, :3], [0.0775673, 0.0452539, -0.0064267], atol=1e-7
    )
    draw = rule_weight("modality_heads.audio.0.weight", (48,))
    np.testing.assert_allclose(draw[:2], [1.0482875, 1.3271621], atol=1e-6)


def test_reference_numbers(fused):
    config = golden(fused)
    clap, params = make_clap(config), published_params(config)
    value = features(config, 2, num_frames=1_001)
    longer = (LONGER,) if fused else ()
    audio = jax.jit(clap.audio)(params, value, *longer)
    np.testing.assert_allclose(audio[:, :6], GOLDEN_AUDIO[fused], atol=1e-5)
    text = jax.jit(clap.text)(params, IDS)
    np.testing.assert_allclose(text[:, :6], GOLDEN_TEXT, atol=1e-5)
    if not fused:
        logits = np.exp(params["log_scale_audio"]) * audio @ text.T
        np.testing.assert_allclose(logits, GOLDEN_LOGITS, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "audio", "head", "total"),
    [
        (HTSAT_TINY, 27_534_488, 656_384, 153_492_890),
        (HTSAT_TINY_FUSED, 27_549_128, 656_384, 153_507_530),
        (HTSAT_BASE, 67_824_408, 787_456, 193_913_882),
    ],
    ids=["tiny", "tiny fused", "base"],
)
def test_published_parameter_counts(config, audio, head, total):
    tree = jax.eval_shape(make_clap(config).init, jax.random.key(0))
    # As published: running statistics are no parameters there.
    assert count(shapes_of(tree), without=("mean", "var")) == {
        "audio": audio,
        "audio_head": head,
        "text": 124_645_632,
        "text_head": 656_384,
        "log_scale_audio": 1,
        "log_scale_text": 1,
    }
    assert sum(count(shapes_of(tree), without=("mean", "var")).values()) == total
    # 64 mel bins; fused, also 96 + 24 channels in each half of the fusion.
    statistics = 2 * (64 + (2 * (96 + 24) if config.audio.fused else 0))
    assert sum(count(shapes_of(tree)).values()) == total + statistics


def test_initial_parameters(plain):
    _, clap, params = plain
    fresh = clap.init(jax.random.key(0))
    assert shapes_of(fresh) == shapes_of(params)
    # CLIP's start: a softmax at temperature 0.07.
    assert np.exp(-fresh["log_scale_text"]) == pytest.approx(0.07, rel=1e-6)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(fresh))
    # Untrained words differ already, and nothing starts at zero by mistake.
    assert np.abs(np.diff(clap.text(fresh, IDS), axis=0)).max() > 1e-3


def test_leading_axes_of_audio_are_free_and_vectors_have_length_one(made):
    config, clap, params = made
    longer = (np.arange(4).reshape(2, 2) % 2 == 0,) if config.audio.fused else ()
    check_leading_axes(clap.audio, params, features(config, 2, 2), *longer)


def test_leading_axes_of_text_are_free_and_vectors_have_length_one(plain):
    _, clap, params = plain
    ids = np.resize(np.arange(3, 45), (2, 2, 7))
    check_leading_axes(clap.text, params, ids)


def check_leading_axes(embed, params, *inputs):
    whole = embed(params, *inputs)
    assert whole.shape == (2, 2, 6)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=-1), 1.0, atol=1e-6)
    alone = embed(params, *(value[0, 1] for value in inputs))
    np.testing.assert_allclose(whole[0, 1], alone, atol=1e-6)
    mapped = jax.vmap(embed, in_axes=(None, *(0 for _ in inputs)))(params, *inputs)
    np.testing.assert_allclose(mapped, whole, atol=1e-6)
    assert np.abs(whole[0, 0] - whole[1, 1]).max() > 1e-3


def test_an_embedding_is_its_tower_then_its_head(plain):
    config, clap, params = plain
    inputs = {"audio": features(config, 2, 2), "text": IDS}
    for name, value in inputs.items():
        embed, tower, head = (
            getattr(clap, name + part) for part in ("", "_tower", "_head")
        )
        hidden = tower(params, value)
        width = {"audio": config.audio.hidden_width, "text": config.text.width}[name]
        assert hidden.shape == (*value.shape[: -1 if name == "text" else -2], width)
        # A head needs no tower's weights.
        alone = {f"{name}_head": params[f"{name}_head"]}
        np.testing.assert_allclose(head(alone, hidden), embed(params, value), atol=1e-6)


def test_gradients_of_the_features(made):
    config, clap, params = made
    # The second clip is digital silence: every bin at the front end's floor.
    value = features(config, 2)
    value[1] = -100.0
    longer = (np.array([True, True]),) if config.audio.fused else ()

    def score(params, value):
        return jnp.sum(clap.audio(params, value, *longer)[:, 0])

    by_params, by_value = jax.jit(jax.grad(score, argnums=(0, 1)))(params, value)
    assert np.isfinite(by_value).all()
    assert np.abs(by_value[0]).max() > 0
    # Against a finite difference along the gradient itself.
    step = 0.5 * by_value / np.linalg.norm(by_value)
    ends = [score(params, value + sign * step) for sign in (1.0, -1.0)]
    assert ends[0] - ends[1] == pytest.approx(np.linalg.norm(by_value), rel=1e-2)
    # Stored statistics are out of an optimiser's reach, the scales beside them not.
    norm = by_params["audio"]["batch_norm"]
    assert not np.any(norm["mean"])
    assert not np.any(norm["var"])
    assert np.all(norm["scale"] != 0)


def test_any_number_of_frames_up_to_a_window(plain):
    config, clap, params = plain
    for num_frames in (1, config.audio.num_frames):
        value = features(config, 2, num_frames=num_frames)
        assert np.isfinite(clap.audio(params, value)).all()


def test_crops_are_heard_in_long_clips_only():
    config = small(True)
    embed, params = jax.jit(make_clap(config).audio), published_params(config)
    value = features(config, 2)
    other = value.copy()
    other[:, 1:] += 5.0
    change = np.abs(embed(params, value, LONGER) - embed(params, other, LONGER))
    change = change.max(axis=-1)
    assert change[0] > 1e-4
    assert change[1] == 0


def test_padding_changes_nothing(plain):
    _, clap, params = plain
    ids = np.array([[0, 9, 8, 2], [1, 1, 1, 1]])
    padded = np.pad(ids, ((0, 0), (0, 3)), constant_values=1)
    text, longer = (clap.text(params, value) for value in (ids, padded))
    np.testing.assert_allclose(text[0], longer[0], atol=1e-6)
    # Nothing but padding is no sentence, but no NaN either.
    assert np.isfinite(text).all()


@pytest.mark.parametrize("unknown", [-1, 50])
def test_an_id_that_the_table_does_not_have_is_no_other_word(plain, unknown):
    _, clap, params = plain
    text = clap.text(params, np.array([[0, 5, 2], [0, unknown, 2]]))
    assert np.isfinite(text[0]).all()
    assert np.isnan(text[1]).all()


@pytest.mark.parametrize(
    ("fused", "shape", "longer", "message"),
    [
        (False, (2, 1001, 16), None, r"is \(2, 1001, 16\), .* n in 1..256 frames"),
        (False, (2, 0, 16), None, r"features is \(2, 0, 16\), expected"),
        (False, (2, 100, 64), None, r"expected \[\.\.\., n, 16\]"),
        (False, (16,), None, r"features is \(16,\), expected"),
        (False, (100, 16), (), "longer is given, expected None"),
        (True, (2, 3, 100, 16), (2,), r"expected \[\.\.\., 4, n, 16\]"),
        (True, (2, 4, 100, 16), None, r"longer is None, expected a boolean for each"),
        (True, (2, 4, 100, 16), (3,), r"longer is \(3,\), .* each clip \(2,\)"),
    ],
)
def test_bad_features(fused, shape, longer, message):
    clap = make_clap(small(fused))
    given = None if longer is None else jnp.ones(longer, bool)
    with pytest.raises(ValueError, match=message) as caught:
        clap.audio({}, jnp.zeros(shape), given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(), (2, 0), (2, 11)])
def test_bad_ids(shape):
    with pytest.raises(ValueError, match=r"expected integers .* l in 1..10"):
        make_clap(small(False)).text({}, jnp.ones(shape, int))


def test_ids_are_integers():
    with pytest.raises(ValueError, match="ids is float32"):
        make_clap(small(False)).text({}, jnp.ones((1, 3)))
