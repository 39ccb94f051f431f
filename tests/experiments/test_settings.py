"""Settings: every wrong one is refused by its name, every right one resolves."""

import dataclasses
import runpy

import ml_collections
import pytest

from experiments.configs import debug, quickstart
from experiments.settings import SECTIONS, Settings, default_config, resolve
from marssep_jax.config import to_dict
from marssep_jax.presets import PATHWISE

STAGES = ("supervised", "continued", "policy")


def refused(values, *parts):
    with pytest.raises(ValueError, match=r"^config\.") as caught:
        resolve(values)
    for part in parts:
        assert part in str(caught.value)


def keys(config, place=""):
    for name, value in config.items():
        yield f"{place}{name}"
        if isinstance(value, ml_collections.ConfigDict):
            yield from keys(value, f"{place}{name}.")


def test_unknown_names():
    refused({"nonsense": 1}, "config.nonsense is unknown, expected one of align")
    for section in SECTIONS:
        expected = f"config.{section}.nonsense is unknown, expected one of "
        refused({section: {"nonsense": 1}}, expected)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("training.batch_size", "many", "'many', expected a value of type int"),
        ("training.batch_size", 2.5, "2.5, expected a value of type int"),
        ("training.num_steps", True, "True, expected a value of type int"),
        ("training.tensorboard", 1, "1, expected a value of type bool"),
        ("optimiser.learning_rate", "fast", "'fast', expected a value of type float"),
        ("data.split", 3, "3, expected a value of type str"),
        ("align.num_steps", 3, "3, expected a value of type tuple"),
        ("separator.widths", (8, "x"), "'x', expected a value of type int"),
        ("start.encoder", None, "None, expected a value of type str"),
    ],
)
def test_wrong_types(key, value, expected):
    section, name = key.split(".")
    refused({section: {name: value}}, f"config.{key} is {expected}")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("frontend.n_fft", 1_023, "an even number"),
        ("frontend.sample_rate_hz", 0, "> 0"),
        ("frontend.hop", 2_000, "in (0, n_fft]"),
        ("frontend.num_samples", 100, ">= n_fft = 1024"),
        ("separator.architecture", "transformer", "'omnisep' or 'compact'"),
        (
            "encoder.pooling",
            "sum",
            "'mlbp', 'mean', 'max', 'weighted', 'te",
        ),
        ("policy.kappa", -1.0, "> 0"),
        ("policy.kappa_start", -1.0, ">= 0"),
        ("policy.family", "gauss", "'beta' or 'patch_beta'"),
        ("policy.sampler", "dice", "'table' or 'jax'"),
        ("rl.group_size", 0, ">= 1"),
        ("rl.inner_epochs", 0, ">= 1"),
        ("rl.old_refresh", 0, ">= 1"),
        ("rl.clip_eps", 1.0, "in (0, 1)"),
        ("rl.reward", "smell", "'cosine', 'contrastive', 'softmax' or 'si_sdr'"),
        ("rl.reward_on", "paper", "'waveform' or 'grid'"),
        ("rl.ratio_level", "pixel", "'bin', 'mask', 'joint' or 'none'"),
        ("rl.kl_ref_coef", -0.1, ">= 0"),
        ("policy.noise_patch", (0, 8), ">= 1"),
        ("policy.action_patch", (8,), "a pair"),
        ("optimiser.learning_rate", -1e-3, "> 0"),
        ("optimiser.clip_norm", 0.0, "> 0"),
        ("optimiser.warmup_steps", -1, ">= 0"),
        ("optimiser.final_fraction", 1.5, "in [0, 1]"),
        ("data.num_sources", 0, ">= 1"),
        ("data.num_absent", -1, ">= 0"),
        ("data.query_concentration", 0.0, "> 0"),
        ("training.num_steps", 0, ">= 1"),
        ("training.log_every", -1, ">= 0"),
        ("judge_training.num_steps", 0, ">= 1"),
        ("align.batch_size", 1, ">= 2"),
        ("separator.widths", (8, 0), "> 0"),
        ("training.batch_size", 0, ">= 1"),
        ("training.mask_target", "soft", "'ratio' or 'binary'"),
        ("align.num_steps", (1, 2), "three numbers, one for each stage"),
    ],
)
def test_out_of_range(key, value, expected):
    section, name = key.split(".")
    message = f"config.{key} is {value!r}, expected {expected}"
    refused({section: {name: value}}, message)


def test_a_section_is_no_number():
    refused({"training": 3}, "config.training is 3, expected a section of settings")


def test_unknown_stage():
    expected = "config.stage is 'play', expected supervised or policy"
    refused({"stage": "play"}, expected)


def test_policy_stage_needs_a_start():
    refused({"stage": "policy"}, "config.start.separator is '', expected the superv")
    start = {"separator": "runs/base"}
    assert resolve({"stage": "policy", "start": start}).name == "policy"


def test_queries_have_one_size():
    message = "config.separator.embed_dim is 96, expected 12 as config.encoder has"
    refused({"encoder": {"embed_dim": 12}}, message)


def test_defaults_resolve():
    assert resolve(default_config()) == resolve({}) == Settings()
    assert hash(Settings()) == hash(resolve({}))
    assert resolve({}).name == "supervised"


def test_config_is_locked():
    config = default_config()
    with pytest.raises(AttributeError):
        config.training.nonsense = 1
    with pytest.raises(TypeError):
        config.training.batch_size = "many"


def test_lists_become_tuples():
    config = default_config()
    config.separator.widths = [8, 16]
    config.policy.noise_patch = [4, 4]
    config.align.num_steps = [1, 2, 3]
    settings = resolve(config)
    assert settings.separator.widths == (8, 16)
    assert settings.policy.noise_patch == (4, 4)
    assert settings.align.num_steps == (1, 2, 3)
    hash(settings)


@pytest.mark.parametrize("module", [debug, quickstart])
@pytest.mark.parametrize("stage", STAGES)
def test_config_files_resolve(module, stage):
    settings = resolve(module.get_config(stage))
    assert settings.stage == ("policy" if stage == "policy" else "supervised")
    # The record says everything, so that a run can be repeated from it.
    again = resolve(to_dict(settings))
    assert again == settings
    assert bool(settings.start.separator) == (stage != "supervised")


@pytest.mark.parametrize("module", [debug, quickstart])
def test_config_files_know_their_stages(module):
    with pytest.raises(ValueError, match="'play', expected") as caught:
        module.get_config("play")
    for stage in STAGES:
        assert stage in str(caught.value)


def test_the_quickstart_has_both_ways_to_a_policys_gradient():
    """Preset and paper's way differ in the update; both go on from the same base."""
    ways = {name: resolve(quickstart.get_config(name)) for name in ("policy", "score")}
    assert ways["policy"].rl == PATHWISE
    assert (ways["score"].rl.estimator, ways["score"].rl.group_size) == ("score", 8)
    assert ways["policy"].start == ways["score"].start
    assert ways["policy"].separator == ways["score"].separator


def test_stages_of_a_chain_fit_each_other():
    """What a stage starts from was built as it says; names are unlike."""
    for module in (debug, quickstart):
        base, *others = (resolve(module.get_config(stage)) for stage in STAGES)
        for other in others:
            assert other.frontend == base.frontend
            assert other.separator == base.separator
            assert other.encoder == base.encoder
            assert other.data.dataset == base.data.dataset
        assert len({base.name, *(other.name for other in others)}) == 3


def test_debug_and_real_config_have_the_same_keys():
    trees = [list(keys(m.get_config(s))) for m in (debug, quickstart) for s in STAGES]
    assert all(tree == trees[0] for tree in trees)
    for section, make in SECTIONS.items():
        named = {f"{section}.{entry.name}" for entry in dataclasses.fields(make())}
        assert named < set(trees[0])


@pytest.mark.parametrize("module", [debug, quickstart])
def test_config_files_run_alone(module):
    """Config files are read by path, by ``--config`` and by the chain."""
    found = runpy.run_path(module.__file__)["get_config"]()
    assert resolve(found) == resolve(module.get_config())
    assert "Whole: " in module.__doc__
    assert "One stage: " in module.__doc__
