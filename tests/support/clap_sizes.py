"""CLAPs small enough for tests."""

from marssep_jax.encoders.clap import ClapAudioConfig, ClapConfig, ClapTextConfig

TEXT = ClapTextConfig(
    vocab_size=200, width=32, num_layers=2, num_heads=4, mlp_width=64, num_positions=80
)


def golden(fused):
    """Return the sizes that the golden numbers belong to."""
    audio = ClapAudioConfig(
        width=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4), fused=fused
    )
    return ClapConfig(audio, TEXT, embed_dim=16)


def small(fused):
    """Return two stages on a quarter of the picture: 256 frames of 16 bins."""
    audio = ClapAudioConfig(
        width=8,
        depths=(2, 1),
        num_heads=(2, 2),
        num_mel_bins=16,
        picture_size=64,
        fused=fused,
    )
    text = ClapTextConfig(
        vocab_size=50,
        width=16,
        num_layers=1,
        num_heads=2,
        mlp_width=24,
        num_positions=12,
    )
    return ClapConfig(audio, text, embed_dim=6)
