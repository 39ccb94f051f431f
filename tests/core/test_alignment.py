"""The alignment losses by hand, and what each stage may move.

Stages run on a linear encoder whose parts carry the real one's names, so that a
step compiles in no time and every part is one matrix.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from marssep_jax import contrastive
from marssep_jax.alignment import AlignmentBatch, make_alignment_update, trainable_only
from marssep_jax.contrastive import MIN_LOG_TEMPERATURE
from marssep_jax.curriculum import (
    AUDIO_TEXT_PARTS,
    StageConfig,
    paper_stages,
    waveforms_heard,
)
from marssep_jax.encoders import Encoder
from marssep_jax.encoders.contract import normalise
from marssep_jax.fusion import mlbp_fusion
from marssep_jax.state import create_state

pytestmark = pytest.mark.usefixtures("quick_compile")

NUM_CLASSES, DIM, HIDDEN, NUM_SAMPLES = 4, 6, 8, 16
# Weight decay would move what has no gradient, were it not kept away.
RATE, DECAY = 0.03, 0.1
STAGES = {
    f"{stage.name}-{'heads' if heads_only else 'all'}": stage
    for heads_only in (True, False)
    for stage in paper_stages(heads_only)
}
# Stages without audio_vision and vision_triplet never look at pictures, save for
# the pooling, which is taught on detached embeddings.
MOVED = {
    "align-1-heads": {"audio_head", "text_head", "log_temperature"},
    "align-2-heads": {"audio_head", "text_head", "log_temperature"},
    "align-3-heads": {"audio_head", "text_head", "image_head", "log_temperature"},
    "align-1-all": set(AUDIO_TEXT_PARTS),
    "align-2-all": set(AUDIO_TEXT_PARTS),
    "align-3-all": {"audio_head", "image", "image_head", "log_temperature"},
}


info_nce = jax.jit(contrastive.info_nce)
triplet = jax.jit(contrastive.triplet, static_argnames="margin")
discriminability = jax.jit(contrastive.discriminability)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def unit_rows(*shape, seed=0):
    return unit(np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def linear_encoder():
    sizes = {"audio": NUM_SAMPLES, "text": NUM_CLASSES, "image": 2 * 2 * 3}

    def init(key):
        params = {"log_temperature": jnp.asarray(-1.0)}
        for number, (name, size) in enumerate(sizes.items()):
            trunk, head = jax.random.split(jax.random.fold_in(key, number))
            params[name] = jax.random.normal(trunk, (size, HIDDEN))
            params[f"{name}_head"] = jax.random.normal(head, (HIDDEN, DIM))
        return params

    def run(name, params, value):
        return normalise(value @ params[name] @ params[f"{name}_head"])

    def text(params, ids):
        return run("text", params, jax.nn.one_hot(ids[:, 0], NUM_CLASSES))

    def image(params, pixels):
        flat = pixels.reshape(len(pixels), -1).astype(jnp.float32)
        return run("image", params, flat / 255.0)

    def audio(params, waveform):
        return run("audio", params, waveform)

    return Encoder(init, audio, audio, text, image, DIM, {}, {})


def toy_batch(seed=0, size=8):
    """Every class has its waveform, word and colour; clips add a little noise."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(99)
    waves = fixed.standard_normal((NUM_CLASSES, NUM_SAMPLES))
    colours = fixed.integers(0, 256, (NUM_CLASSES, 2, 2, 3), np.uint8)
    label = np.arange(size) % NUM_CLASSES

    def clips(of):
        noise = 0.2 * rng.standard_normal((size, NUM_SAMPLES))
        return jnp.asarray(waves[of] + noise, jnp.float32)

    return AlignmentBatch(
        audio=clips(label),
        view=clips(label),
        text=jnp.asarray(label[:, None], jnp.int32),
        image=jnp.asarray(colours[label]),
        has_image=jnp.ones(size),
        label=jnp.asarray(label, jnp.int32),
        positive=clips(label),
        negative=clips((label + 1) % NUM_CLASSES),
    )


@functools.cache
def build(stage):
    """Return a stage's update and its optimiser; each compiles once."""
    tx = trainable_only(optax.adamw(RATE, weight_decay=DECAY), stage.trainable)
    update = make_alignment_update(linear_encoder(), mlbp_fusion(DIM, 8), stage, tx)
    return update, tx


def start(stage):
    """Return a stage's update and its first state."""
    update, tx = build(stage)
    key = jax.random.key(3)
    params = {
        "encoder": linear_encoder().init(key),
        "fusion": mlbp_fusion(DIM, 8).init(key),
    }
    return update, create_state(key, params, {}, tx)


def info_nce_reference(left, right, label, temperature, valid):
    """Average -log p over the positives of each valid row, both ways."""

    def one_way(here, there):
        rows = []
        for i in np.flatnonzero(valid):
            logits = {
                j: here[i] @ there[j] / temperature for j in np.flatnonzero(valid)
            }
            total = np.log(sum(np.exp(v) for v in logits.values()))
            rows.append(
                np.mean([total - v for j, v in logits.items() if label[j] == label[i]])
            )
        return np.mean(rows)

    left, right = (np.asarray(v, np.float64) for v in (left, right))
    return 0.5 * (one_way(left, right) + one_way(right, left))


@pytest.mark.parametrize("some_invalid", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.07])
def test_info_nce_equals_a_loop_over_rows(some_invalid, temperature):
    left, right = unit_rows(9, 5), unit_rows(9, 5, seed=1)
    label = np.array([0, 1, 2, 0, 1, 3, 3, 3, 4])
    valid = np.ones(9, np.float32)
    if some_invalid:
        valid[[0, 4, 8]] = 0.0
    loss = info_nce(
        jnp.asarray(left),
        jnp.asarray(right),
        jnp.asarray(label),
        jnp.log(temperature),
        jnp.asarray(valid) if some_invalid else None,
    )
    expected = info_nce_reference(left, right, label, temperature, valid)
    # float32 logits of up to 14, in a softmax: 1e-6 of them.
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_info_nce_by_hand():
    rows, zero = jnp.eye(2), jnp.zeros(())
    # Logits 1 and 0: -log p of the first is log(1 + 1/e).
    apart = info_nce(rows, rows, jnp.array([0, 1]), zero)
    np.testing.assert_allclose(apart, np.log1p(np.exp(-1)), rtol=1e-6)
    # One class: both are positive, and the other is 1 further down.
    together = info_nce(rows, rows, jnp.array([5, 5]), zero)
    np.testing.assert_allclose(together, np.log1p(np.exp(-1)) + 0.5, rtol=1e-6)


def test_info_nce_of_unrelated_rows_is_that_of_guessing():
    rows = jnp.ones((4, 1))
    loss = info_nce(rows, rows, jnp.arange(4), jnp.zeros(()))
    np.testing.assert_allclose(loss, np.log(4), rtol=1e-6)


def test_info_nce_without_valid_rows_is_zero_and_so_is_its_gradient():
    rows, label = jnp.asarray(unit_rows(3, 5)), jnp.arange(3)

    def loss(left):
        return info_nce(left, rows, label, jnp.zeros(()), jnp.zeros(3))

    value, grad = jax.jit(jax.value_and_grad(loss))(rows)
    assert value == 0
    np.testing.assert_array_equal(grad, np.zeros((3, 5)))


def test_temperature_has_a_floor():
    rows, label = jnp.asarray(unit_rows(3, 5)), jnp.arange(3)
    lowest, lower = (
        info_nce(rows, -rows, label, jnp.asarray(t))
        for t in (MIN_LOG_TEMPERATURE, -9.0)
    )
    np.testing.assert_array_equal(lowest, lower)


def test_triplet_by_hand():
    anchor = jnp.array([[1.0, 0.0], [1.0, 0.0]])
    positive = jnp.array([[0.6, 0.8], [1.0, 0.0]])
    negative = jnp.array([[0.8, 0.6], [0.0, 1.0]])
    # 0.2 - 0.6 + 0.8 = 0.4, and 0.2 - 1 + 0 is below 0.
    both = triplet(anchor, positive, negative, margin=0.2)
    np.testing.assert_allclose(both, 0.2, atol=1e-6)
    first = triplet(anchor, positive, negative, margin=0.2, valid=jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(first, 0.4, atol=1e-6)
    none = triplet(anchor, positive, negative, margin=0.2, valid=jnp.zeros(2))
    assert none == 0


def test_discriminability_by_hand():
    left = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    right = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    found = discriminability(left, right, jnp.array([0, 1]), jnp.array([0, 1, 1]))
    # Similarity 1 .8 0 / 0 .6 1; matched 1, .6, 1 and mismatched .8, 0, 0.
    np.testing.assert_allclose(found["gap"], (2.6 - 0.8) / 3, atol=1e-6)
    # Both rows find their class; the middle column finds the first row's.
    assert found["recall_at_1"] == 1
    np.testing.assert_allclose(found["recall_at_1_back"], 2 / 3, atol=1e-6)


def test_stages_hear_only_what_their_losses_need():
    heard = [waveforms_heard(stage) for stage in paper_stages(heads_only=False)]
    whole = ("audio", "view", "positive", "negative")
    assert heard == [("audio", "view"), whole, whole]
    one = StageConfig("one", (("vision_triplet", 1.0),))
    assert waveforms_heard(one) == ("audio", "view", "negative")


def test_the_papers_stages_train_heads_and_temperature_alone():
    for stage in paper_stages(heads_only=True):
        assert all(
            p.endswith("_head") or p == "log_temperature" for p in stage.trainable
        )


@pytest.mark.parametrize("name", list(STAGES))
def test_a_stage_moves_its_parts_and_no_others(name):
    stage = STAGES[name]
    update, state = start(stage)
    before = jax.tree.map(np.array, state.params)
    batch = toy_batch()
    if "positive" not in waveforms_heard(stage):
        batch = batch._replace(positive=None, negative=None)
    compiled = update._cache_size()
    for _ in range(3):
        state, metrics = update(state, batch)
    # The start's temperature is of a weak type, as Python numbers are.
    assert update._cache_size() <= compiled + 1
    after, metrics = jax.tree.map(np.array, (state.params, metrics))
    assert state.step == 3
    # More than by decay alone.
    decayed = (1 - RATE * DECAY) ** 3
    moved = set()
    for part, values in before["encoder"].items():
        if part not in stage.trainable:
            assert after["encoder"][part].tobytes() == values.tobytes(), part
        elif not np.allclose(after["encoder"][part], decayed * values, rtol=1e-5):
            moved.add(part)
    assert moved == MOVED[name]
    for part, values in before["fusion"].items():
        assert np.any(after["fusion"][part] != values), part
    names = {f"align/{loss}" for loss, _ in stage.weights}
    assert set(metrics) == names | {"align/loss", "grad/norm"}
    total = sum(weight * metrics[f"align/{loss}"] for loss, weight in stage.weights)
    np.testing.assert_allclose(metrics["align/loss"], total, rtol=1e-5)


def test_temperature_stays_where_it_is_not_listed():
    parts = tuple(p for p in AUDIO_TEXT_PARTS if p != "log_temperature")
    stage = StageConfig("fixed", (("audio_text", 1.0),), parts)
    update, state = start(stage)
    state, _ = update(state, toy_batch())
    assert state.params["encoder"]["log_temperature"] == -1.0


def test_pooling_teaches_the_encoder_nothing():
    stage = StageConfig("pooling", (("pooling", 1.0),))
    update, state = start(stage)
    before = jax.tree.map(np.array, state.params)
    state, _ = update(state, toy_batch())
    after = state.params["encoder"]
    for part, values in before["encoder"].items():
        kept = values * (1 - RATE * DECAY) if part in stage.trainable else values
        np.testing.assert_allclose(after[part], kept, rtol=1e-6)
    assert np.any(state.params["fusion"]["output"] != before["fusion"]["output"])


@pytest.mark.parametrize("name", ["align-1-all", "align-2-all", "align-3-all"])
def test_loss_falls_and_classes_come_apart(name):
    update, state = start(STAGES[name])
    losses = []
    for step in range(30):
        state, metrics = update(state, toy_batch(step))
        losses.append(float(metrics["align/loss"]))
    # 0.33 to 0.52 in practice. Every class has two rows in the batch, so that no
    # InfoNCE falls below log 2: that alone is 0.3 of the start.
    assert np.mean(losses[-5:]) < 0.7 * losses[0]
    encoder, params, batch = linear_encoder(), state.params["encoder"], toy_batch(99)
    other = "image" if name.startswith("align-3") else "text"
    found = discriminability(
        encoder.audio(params, batch.audio),
        getattr(encoder, other)(params, getattr(batch, other)),
        batch.label,
        batch.label,
    )
    assert found["recall_at_1"] == 1
    assert found["gap"] > 0.5


def test_clips_without_a_picture_do_not_count():
    stage = StageConfig(
        "vision", (("audio_vision", 1.0), ("vision_triplet", 1.0), ("pooling", 1.0))
    )
    batch = toy_batch()
    batch = batch._replace(has_image=batch.has_image.at[2].set(0.0))
    other = batch._replace(image=batch.image.at[2].set(255 - batch.image[2]))
    update, state = start(stage)
    # Equal states: the key follows the step, so the pooling drops the same.
    first, second = update(state, batch)[1], update(start(stage)[1], other)[1]
    for name in ("align/audio_vision", "align/vision_triplet", "align/pooling"):
        np.testing.assert_array_equal(first[name], second[name])


def test_consistency_is_one_minus_the_cosine_of_the_views():
    stage = StageConfig("views", (("consistency", 1.0),))
    update, state = start(stage)
    batch = toy_batch()
    state, same = update(state, batch._replace(view=batch.audio))
    np.testing.assert_allclose(same["align/consistency"], 0.0, atol=1e-6)
    # A linear encoder without bias turns a waveform's sign into its vector's.
    _, opposite = update(state, batch._replace(view=-batch.audio))
    np.testing.assert_allclose(opposite["align/consistency"], 2.0, atol=1e-6)


@pytest.mark.parametrize("name", ["positive", "negative"])
def test_a_waveform_that_the_stage_hears_must_be_there(name):
    stage = paper_stages(heads_only=False)[1]
    update, state = start(stage)
    batch = toy_batch()._replace(**{name: None})
    with pytest.raises(ValueError, match=rf"batch\.{name} is None, expected what"):
        update(state, batch)


def test_unknown_loss_is_named():
    stage = StageConfig("odd", (("audio_smell", 1.0), ("pooling", 1.0)))
    with pytest.raises(ValueError, match="loss is 'audio_smell', expected pooling or"):
        start(stage)
