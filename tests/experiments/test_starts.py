"""Models to start from: whose queries, whose reward, and what is refused."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments import build
from experiments.bank_cache import encoder_fingerprint
from experiments.configs import debug
from experiments.settings import resolve
from experiments.starts import load_named_encoder, load_start, same_encoder
from marssep_jax.bundle import ModelBundle, load_bundle, save_bundle
from marssep_jax.config import to_dict
from marssep_jax.encoders.backbones import frozen_parts
from tests.support.tiny_imagebind import save_tiny

BASE = resolve(debug.get_config())
PARTS = build.make_parts(BASE)


def start_from(swap=False, **places):
    config = debug.get_config("policy")
    config.start.update({name: str(place) for name, place in places.items()})
    config.start.swap_query_encoder = swap
    return load_start(resolve(config), PARTS)


def save_model(path, seed, *, separator=True, **encoder):
    settings = dataclasses.replace(BASE.encoder, **encoder)
    sections = {"frontend": BASE.frontend, "encoder": settings}
    config = {name: to_dict(section) for name, section in sections.items()}
    config |= {"separator": to_dict(BASE.separator) if separator else None}
    params = build.init_encoder(jax.random.key(seed), PARTS, BASE.encoder)
    bundle = ModelBundle(
        config=config | {"judge": None, "class_names": ["a", "b"]},
        separator_params={"scale": np.float32(seed)} if separator else None,
        model_state={} if separator else None,
        encoder_params=jax.device_get(params),
        judge_params=None,
    )
    save_bundle(path, bundle)
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A separator with its encoder, and an encoder that was aligned otherwise."""
    folder = tmp_path_factory.mktemp("models")
    first = save_model(folder / "separator", 1)
    return first, save_model(folder / "encoder", 2, separator=False)


def test_one_model_gives_queries_and_reward(models):
    start = start_from(separator=models[0])
    assert same_encoder(start.query, start.reward)
    assert float(start.separator[0]["scale"]) == 1.0


def test_another_reward_leaves_the_queries_alone(models):
    own = start_from(separator=models[0]).query
    start = start_from(separator=models[0], encoder=models[1])
    assert same_encoder(start.query, own)
    assert not same_encoder(start.reward, own)


def test_a_swap_of_the_query_encoder_is_refused(models):
    places = {"separator": models[0], "query_encoder": models[1]}
    with pytest.raises(ValueError, match="expected the encoder that") as caught:
        start_from(**places)
    assert str(caught.value) == (
        f"config.start.query_encoder is {str(models[1])!r}, expected the encoder that "
        "config.start.separator was trained with "
        "(config.start.swap_query_encoder=True takes this one all the same)"
    )
    own = start_from(separator=models[0]).query
    start = start_from(**places, swap=True)
    assert not same_encoder(start.query, own)
    assert same_encoder(start.reward, own)


def test_a_copy_of_the_query_encoder_is_no_swap(models):
    start = start_from(separator=models[0], query_encoder=models[0])
    assert same_encoder(start.query, start.reward)


def test_other_encoders_listen_as_well(models, tmp_path):
    third = save_model(tmp_path / "third", 3, separator=False)
    listed = f"{models[1]},{third}"
    start = start_from(separator=models[0], other_encoders=listed)
    assert same_encoder(start.query, start.reward)
    assert "others" not in start.query.params
    wanted = [load_bundle(path).encoder_params for path in (models[1], third)]
    jax.tree.map(
        np.testing.assert_array_equal, start.reward.params["others"], (*wanted,)
    )


def test_other_encoders_must_be_built_alike(models, tmp_path):
    wide = save_model(tmp_path / "wide", 3, separator=False, embed_dim=24)
    with pytest.raises(
        ValueError, match=r"expected 24 as config\.start\.other_encoders"
    ):
        start_from(separator=models[0], other_encoders=wide)


def test_queries_must_fit_the_separator(models, tmp_path):
    other = save_model(tmp_path / "wide", 3, separator=False, embed_dim=24)
    expected = "expected an encoder of 16 dimensions as config.separator has"
    with pytest.raises(ValueError, match=expected):
        start_from(separator=models[0], query_encoder=other, swap=True)


def test_no_query_encoder_there(models, tmp_path):
    with pytest.raises(ValueError, match=r"start\.query_encoder: checkpoint is"):
        start_from(separator=models[0], query_encoder=tmp_path / "nowhere")


def test_an_encoder_by_its_folder(models):
    config, frontend, params = load_named_encoder(str(models[0]))
    assert (config, frontend) == (BASE.encoder, BASE.frontend)
    own = start_from(separator=models[0]).query
    assert same_encoder(own, own._replace(params={"encoder": params}))


def test_a_converted_encoder_by_its_folder(tmp_path):
    found = load_named_encoder(save_tiny(tmp_path / "a", "imagebind"))
    config, frontend, params = found
    assert (config.architecture, config.embed_dim, frontend) == ("imagebind", 12, None)
    assert params.keys() >= set(frozen_parts(config))
    # Weights count by what they are, not by where they lie.
    copy = load_named_encoder(save_tiny(tmp_path / "b", "imagebind"))
    other = load_named_encoder(save_tiny(tmp_path / "c", "imagebind", seed=1))
    first, second, third = (
        encoder_fingerprint(config, BASE.frontend, params)
        for config, _, params in (found, copy, other)
    )
    assert first == second != third


def test_an_encoder_that_cannot_be_named(models, tmp_path):
    place = save_tiny(tmp_path / "clap", "clap")
    with pytest.raises(ValueError, match="expected a trained model or converted wei"):
        load_named_encoder(place)
    with pytest.raises(ValueError, match=r"^encoder is '.*no', expected the folder of"):
        load_named_encoder(str(tmp_path / "no"))
    bundle = load_bundle(models[0])
    config = bundle.config | {"encoder": None}
    save_bundle(tmp_path / "deaf", bundle._replace(config=config, encoder_params=None))
    with pytest.raises(ValueError, match="expected a model with an encoder in it"):
        load_named_encoder(str(tmp_path / "deaf"))
