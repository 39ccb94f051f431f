"""The stages of the alignment, over waveforms and over features of frozen trunks."""

import json

import jax
import numpy as np
import pytest

from experiments import aligner, alignment_data, build, frozen_features
from experiments.alignment_scores import (
    ValidationMixtures,
    forgotten,
    mixture_gap,
    validation_mixtures,
)
from experiments.clips import make_tables
from experiments.configs import align_imagebind, debug
from experiments.datasets import open_data, validation_manifest
from experiments.listeners import train_listeners
from experiments.settings import resolve
from marssep_jax.bundle import load_bundle
from marssep_jax.curriculum import paper_stages
from marssep_jax.encoders.imagebind import ImageBindConfig, make_imagebind
from marssep_jax.encoders.inputs import make_inputs
from marssep_jax.weights.store import save_encoder
from tests.support.tiny_minilm import save_minilm

pytestmark = pytest.mark.usefixtures("quick_compile")

TINY = ImageBindConfig(
    embed_dim=16,
    **{"audio_width": 16, "audio_blocks": 1, "audio_heads": 2},
    **{"image_width": 16, "image_blocks": 1, "image_heads": 2},
    **{"text_width": 16, "text_blocks": 1, "text_heads": 2},
)


def settings_of(**changes):
    config = debug.get_config()
    config.data.num_validation = 4
    for name, value in changes.items():
        section, field = name.split("__")
        config[section][field] = value
    return resolve(config)


def names(settings):
    return [(stage.name, steps) for stage, steps in aligner.planned_stages(settings)]


def test_stages_of_a_config():
    assert names(settings_of()) == [("align-1", 6), ("align-2", 4), ("align-3", 4)]
    joint = settings_of(align__schedule="joint")
    assert names(joint) == [("align-joint", 14)]
    (stage, _), *_ = aligner.planned_stages(joint)
    assert {name for name, _ in stage.weights} == {
        *("audio_text", "audio_audio", "triplet", "consistency"),
        *("audio_vision", "vision_triplet", "pooling"),
    }


def test_without_the_second_stage_nothing_of_it_is_kept():
    stages = aligner.planned_stages(settings_of(align__num_steps=(8, 0, 6)))
    assert [stage.name for stage, _ in stages] == ["align-1", "align-3"]
    assert "audio_audio" not in dict(stages[1][0].weights)


def test_without_mixing_each_stage_has_its_own_losses():
    settings = settings_of(align_loss__mixing=(0.0, 0.0, 0.0))
    second, third = (
        dict(aligner.planned_stages(settings)[n][0].weights) for n in (1, 2)
    )
    assert set(second) == {"audio_audio", "triplet", "consistency", "pooling"}
    assert set(third) == {"audio_vision", "vision_triplet", "pooling"}


def test_what_counts_as_forgotten():
    before = {"eval/text_recall_at_1": 0.8, "eval/text_recall_at_1_back": 0.5}
    after = {"eval/text_recall_at_1": 0.73, "eval/text_recall_at_1_back": 0.44}
    assert forgotten(before, after, 0, 0.1) is None  # nothing comes before stage 1
    assert forgotten(before, after, 1, 0.1) == "eval/text_recall_at_1_back"
    assert forgotten(before, after, 2, 0.2) is None


def test_mixture_gap_by_hand():
    target = np.asarray([[[1.0, 0.0], [0.0, 1.0]]])
    heard = ValidationMixtures(target, np.asarray([[0.6, 0.8]]), np.asarray([[0, 1]]))
    found = mixture_gap(heard, np.asarray([[1.0, 0.0], [0.0, 1.0]]))
    assert found["eval/mixture_gap"] == pytest.approx((0.4 + 0.2) / 2)


@pytest.fixture(scope="module")
def data():
    settings = settings_of()
    return open_data(settings.data, settings.frontend, settings.encoder.image_size)


def test_validation_mixtures_are_those_of_the_manifest(data):
    settings, catalogue = settings_of(), data.catalogue
    manifest = validation_manifest(settings, catalogue)
    found = validation_mixtures(manifest, catalogue)
    assert found.target.shape[:2] == (4, 2)
    np.testing.assert_array_equal(found.mixture, found.target.sum(axis=1))
    asked = [s["label"] for entry in manifest["mixtures"] for s in entry["sources"]]
    assert catalogue.text_label[found.text_id].ravel().tolist() == asked


@pytest.fixture(scope="module")
def features(data):
    settings = settings_of(align__heads_only=True, align__cached_views=3)
    parts = build.make_parts(settings)
    params = build.init_encoder(jax.random.key(0), parts, settings.encoder)["encoder"]
    mixtures = validation_mixtures(
        validation_manifest(settings, data.catalogue), data.catalogue
    )
    made = frozen_features.frozen_features(
        settings, parts, data.catalogue, mixtures, params, None
    )
    return settings, parts, params, made


def test_every_clip_has_its_views(data, features):
    settings, parts, params, made = features
    count = len(data.catalogue.clips["train"])
    assert len(made.audio) == 3 * count
    assert len(np.unique(made.audio.round(6), axis=0)) == 3 * count  # no two alike
    tables = make_tables(data.catalogue, make_inputs(settings.encoder))
    expected = parts.encoder.features["text"](params, tables.tokens)
    np.testing.assert_allclose(made.text, expected, atol=1e-5)
    assert len(made.image) == len(data.catalogue.images) + 1


def test_cached_batches_are_the_clips_of_the_live_ones(data, features):
    """Of the same step, seed and plan: classes, captions and pictures are equal."""
    settings, _, _, made = features
    stage = paper_stages(heads_only=True)[1]
    tables = make_tables(data.catalogue, make_inputs(settings.encoder))
    live = alignment_data.live_batches(settings, data.catalogue, tables, stage, 5, 2)
    cached = alignment_data.cached_batches(settings, data.catalogue, made, stage, 5, 2)
    first, second = next(live), next(cached)
    live.close()
    np.testing.assert_array_equal(first.label, second.label)
    np.testing.assert_array_equal(first.has_image, second.has_image)
    row = {tuple(ids): number for number, ids in enumerate(tables.tokens.tolist())}
    asked = [row[tuple(ids)] for ids in first.text.tolist()]
    np.testing.assert_array_equal(made.text[asked], second.text)
    assert (second.audio != second.view).any(axis=1).all()


def test_features_are_kept_beside_the_data(data, features, tmp_path, monkeypatch):
    """A shard that is lost is made again, and equals the one that was there."""
    monkeypatch.setattr(frozen_features, "SHARD_ROWS", 64)
    settings, parts, params, made = features
    manifest = validation_manifest(settings, data.catalogue)
    mixtures = validation_mixtures(manifest, data.catalogue)

    def again():
        return frozen_features.frozen_features(
            settings, parts, data.catalogue, mixtures, params, tmp_path
        )

    again()
    (folder,) = tmp_path.glob("features_*")
    shards = sorted(folder.glob("audio_*.npy"))
    before = {path.name: path.stat().st_mtime_ns for path in shards}
    assert len(shards) > 1
    shards[1].unlink()
    found = again()
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("audio_*.npy")}
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {shards[1].name}
    np.testing.assert_allclose(found.audio, made.audio, atol=1e-5)
    np.testing.assert_array_equal(found.mixtures.text_id, made.mixtures.text_id)
    np.testing.assert_allclose(found.image, made.image, atol=1e-5)


def read_rows(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.slow
def test_imagebind_is_aligned_by_its_heads(data, tmp_path):
    """On converted weights: trunks stay, heads move, the model names the folder."""
    weights = jax.device_get(make_imagebind(TINY).init(jax.random.key(3)))
    source = {"name": "tiny.pth", "size_bytes": 1, "sha256": {}}
    save_encoder(tmp_path / "imagebind", "imagebind", TINY, weights, "NC", source)
    config = debug.get_config()
    config.encoder.update(align_imagebind.get_config().encoder)
    config.encoder.backbone = str(tmp_path / "imagebind")
    config.encoder.embed_dim = 16
    config.encoder.pooling_rank = 8
    config.align.heads_only = True
    config.align.cached_views = 2
    config.align.forgetting = 1.0
    config.data.num_validation = 2
    settings = resolve(config)
    few = data.catalogue._replace(
        clips={name: rows[::4] for name, rows in data.catalogue.clips.items()},
        clip_label={n: rows[::4] for n, rows in data.catalogue.clip_label.items()},
        clip_id={name: ids[::4] for name, ids in data.catalogue.clip_id.items()},
    )
    results = train_listeners(
        settings, str(tmp_path / "run"), data._replace(catalogue=few)
    )
    assert [result.step for result in results] == [6, 4, 4, 8]
    params = load_bundle(tmp_path / "run" / "model").encoder_params["encoder"]
    for name, part in weights.items():
        moved = any(
            bool((a != b).any())
            for a, b in zip(
                jax.tree.leaves(part), jax.tree.leaves(params[name]), strict=True
            )
        )
        assert moved == (name not in ("audio", "text", "image")), name
    assert (tmp_path / "run" / "model" / "parameters.npz").stat().st_size < 300_000
    last = read_rows(tmp_path / "run")
    assert {"eval/mixture_gap", "eval/text_recall_at_1"} <= set(
        next(row for row in last if row["stage"] == "align-1" and row["step"] == 6)
    )


@pytest.mark.slow
def test_a_published_text_tower_stays_as_it_is(data, tmp_path):
    weights = save_minilm(tmp_path / "minilm")
    config = debug.get_config()
    config.encoder.text_tower = "minilm"
    config.encoder.text_backbone = str(tmp_path / "minilm")
    config.encoder.text_length = 12
    config.data.num_validation = 2
    train_listeners(resolve(config), str(tmp_path / "run"), data)
    params = load_bundle(tmp_path / "run" / "model").encoder_params["encoder"]
    jax.tree.map(np.testing.assert_array_equal, params["text"], weights)
    key = jax.random.fold_in(jax.random.key(0), 1)
    parts = build.make_parts(resolve(config))
    start = build.init_encoder(key, parts, resolve(config).encoder)["encoder"]
    for name in ("audio", "audio_head", "text_head"):
        for a, b in zip(
            jax.tree.leaves(params[name]), jax.tree.leaves(start[name]), strict=True
        ):
            assert float(np.abs(a - b).max()) > 1e-4, name


@pytest.mark.slow
def test_a_stage_that_forgets_is_taken_back(data, tmp_path):
    """With no leave to forget, earlier scores end no lower than they began."""
    settings = settings_of(align__heads_only=True, align__forgetting=0.0)
    said = []
    results = train_listeners(settings, str(tmp_path), data, announce=said.append)
    first, second, third = (result.rows[-1] for result in results[:3])
    for name in ("eval/text_recall_at_1", "eval/text_recall_at_1_back"):
        assert first[name] <= second[name] <= third[name]
    for name in ("eval/audio_recall_at_1", "eval/audio_recall_at_1_back"):
        assert third[name] >= second[name]
    kept = {row["align/kept_share"] for row in (second, third)}
    taken_back = [line for line in said if "of the stage is kept" in line]
    assert len(taken_back) == sum(
        row["align/kept_share"] < 1 for row in (second, third)
    )
    assert kept <= {1.0, *aligner.BLENDS}


def test_published_trunks_are_never_trained():
    config = debug.get_config()
    config.encoder.architecture = "imagebind"
    config.encoder.backbone = "weights/imagebind"
    with pytest.raises(ValueError, match=r"config.align.heads_only is False, expected"):
        resolve(config)
