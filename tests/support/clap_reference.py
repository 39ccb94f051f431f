"""The two published implementations of CLAP, called as they are.

Neither is needed to run the package; what is here runs where PyTorch is installed.
"""

import importlib
import importlib.util
import sys
import types
import warnings

import numpy as np
import pytest

from experiments.benchmarks import references


def shake(module, seed):
    """Make every weight and statistic of a module its own number.

    Fresh biases, scales and statistics are all zeros and ones: mistaken for each
    other, nobody would notice.
    """
    torch = pytest.importorskip("torch")
    draw = torch.Generator().manual_seed(seed)
    for key, value in module.state_dict().items():
        # LAION keeps the mask of shifted windows among its weights.
        known = key.endswith("attn_mask")
        if value.is_floating_point() and value.ndim and not known:
            # Positive for a variance's sake; around zero where sums over a width
            # would only grow, and with them the rounding of both sides.
            one = value.ndim == 1
            noise = (torch.rand if one else torch.randn)(value.shape, generator=draw)
            value.add_(noise, alpha=0.1 if one else 0.02)
    return module.eval()


def hugging_face(config, seed):
    """Return transformers' ClapModel of these sizes with random weights."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    with torch.no_grad():
        return shake(references.published_clap(config), seed)


def laion_htsat(config, seed):
    """Return LAION's audio tower alone, fed with log-mel frames.

    The package itself is never imported: it asks for what there is no wheel of. Its
    front end is replaced by nothing, so that both sides get the same frames.
    """
    torch = pytest.importorskip("torch")
    place = importlib.util.find_spec("laion_clap")
    if place is None:
        pytest.skip("laion_clap is not installed")

    class Identity(torch.nn.Module):
        def __init__(self, *_, **__):
            super().__init__()

        def forward(self, value):
            return value

    absent = {
        "torchlibrosa": (),
        "torchlibrosa.stft": ("Spectrogram", "LogmelFilterBank"),
        "torchlibrosa.augmentation": ("SpecAugmentation",),
        "torchvision": (),
        "torchvision.ops": (),
        "torchvision.ops.misc": ("FrozenBatchNorm2d",),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, classes in absent.items():
            module = types.ModuleType(name)
            for each in classes:
                setattr(module, each, Identity)
            patch.setitem(sys.modules, name, module)
        package = types.ModuleType("laion_clap_alone")
        package.__path__ = [f"{place.submodule_search_locations[0]}/clap_module"]
        patch.setitem(sys.modules, package.__name__, package)
        htsat = importlib.import_module(f"{package.__name__}.htsat")
        for name in [n for n in sys.modules if n.startswith("laion_clap_alone.")]:
            patch.delitem(sys.modules, name)
    # Settings of the front end, which is not there.
    unused = dict.fromkeys(("window_size", "hop_size", "sample_rate", "fmin", "fmax"))
    audio = config.audio
    torch.manual_seed(seed)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its torch.meshgrid
        tower = htsat.HTSAT_Swin_Transformer(
            spec_size=audio.picture_size,
            patch_size=audio.patch_size,
            patch_stride=(audio.patch_size, audio.patch_size),
            embed_dim=audio.width,
            depths=list(audio.depths),
            num_heads=list(audio.num_heads),
            window_size=audio.window_size,
            mlp_ratio=float(audio.mlp_ratio),
            config=types.SimpleNamespace(mel_bins=audio.num_mel_bins, **unused),
            enable_fusion=audio.fused,
            fusion_type="aff_2d" if audio.fused else "None",
        )
        return shake(tower, seed)


def log_mel(config, count, num_frames, seed):
    """Draw features [count, views, n, m] about as loud as real ones."""
    views = 4 if config.audio.fused else 1
    shape = (count, views, num_frames, config.audio.num_mel_bins)
    draw = np.random.default_rng(seed).standard_normal(shape)
    return (20 * draw - 30).astype(np.float32)
