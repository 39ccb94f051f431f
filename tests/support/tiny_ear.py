"""A network of two numbers in the place of those that others trained."""

import jax
import jax.numpy as jnp
import numpy as np

from marssep_jax.weights.packages import PackagedWeights


class Words:
    """A network whose embedding is [low share, high share], with a word for each."""

    calls = 0
    WEIGHTS = PackagedWeights("ear", "ear", "ear==1", "MIT", "nobody", {})

    def read_params(self, paths):
        return {"tags": {"kernel": np.eye(2, 50, dtype=np.float32)}}

    def embed(self, params, waveform, rate_hz):
        spectrum = jnp.abs(jnp.fft.rfft(waveform))
        low = spectrum[..., :40].sum(-1) / spectrum.sum(-1)
        jax.debug.callback(self.count)
        return jnp.stack([low, 1 - low], axis=-1)

    def count(self):
        self.calls += 1
