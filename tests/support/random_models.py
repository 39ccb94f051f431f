"""Untrained models of the debug configuration, and mixtures to ask them for."""

import jax

from data_pipelines.catalogue import save_catalogue
from data_pipelines.manifest import build_manifest, write_manifest
from data_pipelines.synthetic import synthetic_catalogue
from experiments.configs import debug
from experiments.settings import resolve
from marssep_jax.bundle import ModelBundle, save_bundle
from marssep_jax.config import to_dict
from marssep_jax.encoders import make_encoder, make_judge
from marssep_jax.models import make_separator


def small_settings(num_samples):
    """Return the debug settings for clips of another length."""
    config = debug.get_config()
    config.frontend.num_samples = num_samples
    return resolve(config)


def save_mixtures(folder, num_mixtures, num_samples, split="unseen"):
    """Write a synthetic data set with a manifest; return the manifest's path."""
    settings = small_settings(num_samples)
    catalogue = synthetic_catalogue(
        num_samples + num_samples // 4,
        crop_samples=num_samples,
        sample_rate_hz=settings.frontend.sample_rate_hz,
        image_size=settings.encoder.image_size,
    )
    save_catalogue(catalogue, folder)
    manifest = build_manifest(
        catalogue, split, num_mixtures, seed=0, num_samples=num_samples
    )
    path = folder / f"manifest_{split}.json"
    write_manifest(manifest, path)
    return path


def save_random_model(folder, num_samples, seed=0):
    """Write a bundle with random weights and return its folder."""
    settings = small_settings(num_samples)
    names = synthetic_catalogue(64, crop_samples=32, clips_per_class=1).class_names
    keys = jax.random.split(jax.random.key(seed), 3)
    params, state = make_separator(settings.separator).init(keys[0], settings.frontend)
    encoder = make_encoder(settings.encoder, settings.frontend)
    judge = make_judge(settings.judge, settings.frontend, len(names))
    sections = ("frontend", "separator", "encoder", "judge")
    config = {name: to_dict(getattr(settings, name)) for name in sections}
    config |= {"class_names": list(names), "step": 0, "stage": "untrained"}
    config |= {"licence": "CC0-1.0", "versions": {}}
    bundle = ModelBundle(
        config, params, state, {"encoder": encoder.init(keys[1])}, judge.init(keys[2])
    )
    save_bundle(folder, jax.device_get(bundle))
    return folder
