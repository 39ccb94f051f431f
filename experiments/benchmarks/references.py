"""The published implementations that run beside ours, and how they are imported.

Some packages' own start asks for others that have no wheel or are not needed here;
their modules are then imported without it, beside stand-ins for what they only name.
PyTorch runs where JAX does, on the CPU or an NVIDIA GPU, or is not compared with.
"""

import contextlib
import importlib.machinery
import importlib.metadata
import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any

import jax

from experiments.benchmarks.facts import num_cores
from experiments.benchmarks.rows import NotMeasuredError
from marssep_jax.encoders.clap import ClapConfig
from marssep_jax.encoders.imagebind import ImageBindConfig

IMAGEBIND_MODALITIES = {"audio": "audio", "image": "vision", "text": "text"}
"""Our names and the published ones."""

SAME_PRODUCTS = "TF32 on both sides"
"""What rows on a GPU say of float32."""


def version(package: str) -> str:
    """Return the version of an installed package."""
    return importlib.metadata.version(package)


def torch_device() -> str:
    """Return PyTorch's name of the device that JAX computes on, set up as JAX's is.

    On the CPU PyTorch gets as many threads as JAX has cores. On a GPU float32
    products are TF32, which is JAX's default there, and the fastest convolution is
    looked for, as XLA does.

    Raises:
      NotMeasuredError: PyTorch cannot compute there.
      ModuleNotFoundError: PyTorch is not installed.
    """
    backend = jax.default_backend()
    if backend not in ("cpu", "gpu"):
        raise NotMeasuredError(f"JAX runs on {backend}, PyTorch here on CPU or GPU")
    import torch

    if backend == "cpu":
        torch.set_num_threads(num_cores())
        return "cpu"
    if not torch.cuda.is_available():
        raise NotMeasuredError("JAX runs on the GPU, and this PyTorch finds none")
    _allow_tf32(True)
    torch.backends.cudnn.benchmark = True
    return "cuda"


def finish(device: str) -> None:
    """Wait until PyTorch has done all that it was told to."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


@contextlib.contextmanager
def full_float32(device: str) -> Iterator[None]:
    """Multiply in full float32 on both sides.

    That is for comparing values: products in TF32 differ from the fourth digit on,
    by what was added up first.

    Args:
      device: of `torch_device`.
    """
    if device == "cpu":  # nothing else there
        yield
        return
    _allow_tf32(False)
    try:
        with jax.default_matmul_precision("highest"):
            yield
    finally:
        _allow_tf32(True)


def _allow_tf32(allowed: bool) -> None:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def keep_torchaudio_from_its_libraries() -> None:
    """Stand in for the module that loads torchaudio's compiled part.

    Its wheels are built for CUDA and fail to load beside a CPU build of PyTorch;
    transformers imports it where it finds it. Resampling and filter banks are
    Python.
    """
    if importlib.util.find_spec("torchaudio") is None:
        return
    extension: Any = types.ModuleType("torchaudio._extension")
    extension.fail_if_no_align = lambda function: function
    extension._IS_TORCHAUDIO_EXT_AVAILABLE = False
    extension._IS_ALIGN_AVAILABLE = False
    sys.modules["torchaudio._extension"] = extension
    sys.modules["torchaudio._extension.utils"] = types.ModuleType("utils")


def keep_transformers_from_broken_packages() -> None:
    """Let transformers find neither torchaudio's libraries nor torchvision.

    It imports what it finds, and their compiled parts may not fit PyTorch's build.
    It looks once: this comes before anything else imports it.
    """
    if importlib.util.find_spec("torch") is None:
        return
    keep_torchaudio_from_its_libraries()
    with open_shelf() as shelf:
        shelf.hide("torchvision")
        from transformers.utils import is_torchvision_available

        is_torchvision_available()


class Shelf:
    """Puts modules into sys.modules that need not exist, or not be run."""

    def __init__(self) -> None:
        """Start with an empty one; see `open_shelf`."""
        self._before: dict[str, types.ModuleType | None] = {}

    def missing(self, *names: str) -> list[str]:
        """Return the packages that are not installed; none is imported."""
        return [name for name in names if importlib.util.find_spec(name) is None]

    def stand_in(self, name: str, **contents: Any) -> None:
        """Put a module of some names where another would be."""
        module = types.ModuleType(name)
        module.__dict__.update(contents)
        self._before.setdefault(name, sys.modules.get(name))
        sys.modules[name] = module

    def hide(self, name: str) -> None:
        """Let a package look as if it were not installed."""
        self._before.setdefault(name, sys.modules.get(name))
        # Python takes None for a package that is not there; its types do not know.
        sys.modules[name] = None  # type: ignore[assignment]

    def open_package(self, name: str) -> None:
        """Make submodules importable without running the package's own start."""
        spec = importlib.machinery.PathFinder.find_spec(name)
        if spec is None or spec.submodule_search_locations is None:
            raise ModuleNotFoundError(f"no package {name!r}", name=name)
        folders = list(spec.submodule_search_locations)
        self.stand_in(name, __path__=folders, __spec__=spec)

    def open_imagebind(self) -> None:
        """Make ImageBind's modules importable."""
        import torch

        self.open_package("imagebind")
        self.stand_in("timm")
        init = torch.nn.init.trunc_normal_
        self.stand_in("timm.layers", DropPath=torch.nn.Identity, trunc_normal_=init)
        self.stand_in("iopath")
        self.stand_in("iopath.common")
        manager = types.SimpleNamespace(open=open)
        self.stand_in("iopath.common.file_io", g_pathmgr=manager)

    def close(self) -> None:
        """Put back what was there before."""
        for name, module in self._before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


@contextlib.contextmanager
def open_shelf() -> Iterator[Shelf]:
    """Open a shelf that is empty again afterwards."""
    shelf = Shelf()
    try:
        yield shelf
    finally:
        shelf.close()


def published_imagebind(shelf: Shelf, config: ImageBindConfig) -> Any:
    """Return the published model; what we do not have is as small as it goes."""
    import torch

    shelf.open_imagebind()
    from imagebind.models.imagebind_model import ImageBindModel

    torch.manual_seed(0)
    sizes = {
        f"{theirs}_{name}": getattr(config, f"{ours}_{size}")
        for ours, theirs in IMAGEBIND_MODALITIES.items()
        for name, size in (
            ("embed_dim", "width"),
            ("num_blocks", "blocks"),
            ("num_heads", "heads"),
        )
    }
    others = {f"{name}_num_blocks": 1 for name in ("depth", "thermal", "imu")}
    return ImageBindModel(out_embed_dim=config.embed_dim, **sizes, **others).eval()


def published_clap(config: ClapConfig) -> Any:
    """Return transformers' ClapModel of these sizes with random weights."""
    import torch

    keep_transformers_from_broken_packages()
    import transformers

    audio, text = config.audio, config.text
    published = transformers.ClapConfig(
        projection_dim=config.embed_dim,
        audio_config={
            "patch_embeds_hidden_size": audio.width,
            "hidden_size": audio.hidden_width,
            "depths": list(audio.depths),
            "num_attention_heads": list(audio.num_heads),
            "enable_fusion": audio.fused,
            "num_mel_bins": audio.num_mel_bins,
            "spec_size": audio.picture_size,
            "patch_size": audio.patch_size,
            "patch_stride": [audio.patch_size] * 2,
            "window_size": audio.window_size,
            "mlp_ratio": float(audio.mlp_ratio),
            "aff_block_r": audio.fusion_reduction,
        },
        text_config={
            "vocab_size": text.vocab_size,
            "hidden_size": text.width,
            "num_hidden_layers": text.num_layers,
            "num_attention_heads": text.num_heads,
            "intermediate_size": text.mlp_width,
            "max_position_embeddings": text.num_positions,
            "layer_norm_eps": text.eps,
        },
    )
    torch.manual_seed(0)
    return transformers.ClapModel(published).eval()


def numpy_state(model: Any) -> dict[str, Any]:
    """Return a PyTorch model's tensors by name, in the memory where they are."""
    return {key: tensor.numpy() for key, tensor in model.state_dict().items()}
