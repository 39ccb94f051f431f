"""Sizes of ImageBind; the defaults are those of the published model, "huge"."""

from dataclasses import dataclass

from marssep_jax.checks import require


@dataclass(frozen=True)
class ImageBindConfig:
    """Three transformers that share nothing but the width of their output."""

    embed_dim: int = 1024
    audio_width: int = 768
    audio_blocks: int = 12
    audio_heads: int = 12
    mel_rows: int = 128
    mel_frames: int = 204  # of a clip of 2 s, the last 6 of them padding
    audio_patch: int = 16
    audio_stride: int = 10
    image_width: int = 1280
    image_blocks: int = 32
    image_heads: int = 16
    image_size: int = 224
    image_patch: int = 14
    text_width: int = 1024
    text_blocks: int = 24
    text_heads: int = 16
    vocabulary: int = 49_408
    text_length: int = 77
    dtype: str = "float32"  # of the computation; parameters stay float32

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, value in vars(self).items():
            if name != "dtype":
                require(value >= 1, name, value, ">= 1")
        for kind in ("audio", "image", "text"):
            width, heads = (
                getattr(self, f"{kind}_width"),
                getattr(self, f"{kind}_heads"),
            )
            fits = width % heads == 0
            require(
                fits, f"{kind}_width", width, f"a multiple of {kind}_heads = {heads}"
            )
        fits = self.image_size % self.image_patch == 0
        expected = f"a multiple of image_patch = {self.image_patch}"
        require(fits, "image_size", self.image_size, expected)
        fits = min(self.mel_rows, self.mel_frames) >= self.audio_patch
        size, expected = (self.mel_rows, self.mel_frames), "room for one audio_patch"
        require(fits, "(mel_rows, mel_frames)", size, expected)
        known = ("float32", "bfloat16")
        require(self.dtype in known, "dtype", self.dtype, "'float32' or 'bfloat16'")

    @property
    def audio_grid(self) -> tuple[int, int]:
        """Patches over mel rows and over time."""
        rows, frames = self.mel_rows, self.mel_frames
        return tuple(  # type: ignore[return-value]
            1 + (size - self.audio_patch) // self.audio_stride
            for size in (rows, frames)
        )

    @property
    def image_grid(self) -> int:
        """Patches along a side."""
        return self.image_size // self.image_patch
