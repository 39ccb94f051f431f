"""Records and callables that the modules hand to each other.

Shape legend (used in every annotation and docstring):

====== =====================================================
``b``  mixtures in a batch
``k``  targets queried in one mixture
``g``  masks sampled per target (the *group*)
``t``  waveform samples
``f``  STFT bins
``n``  STFT frames
``h``  rows of the log-frequency grid
``w``  columns of the log-frequency grid (one per STFT frame)
``d``  embedding dimension
====== =====================================================

Arrays keep this axis order: batch, target, group, then the signal's own axes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Complex, Float, Int, PRNGKeyArray

AXIS = "data"
"""The axis of devices, of a mesh and of a `pmap`, over which batches are cut."""

Params = Any
"""A pytree of arrays, as Flax makes it."""

Metrics = dict[str, Array]
"""Flat ``stage/name`` to scalar, e.g. ``policy/clip_fraction``."""


class MixtureBatch(NamedTuple):
    """One training batch. The mixture is the sum of the targets over ``k``.

    A target that is silent everywhere stands for a query whose class is not in
    the mixture. A modality that an item lacks has an all-zero embedding.
    """

    target: Float[Array, "b k t"]
    query: Float[Array, "b k d"]
    text: Float[Array, "b k d"]
    image: Float[Array, "b k d"]
    label: Int[Array, "b k"]


class Features(NamedTuple):
    """A mixture as the separator and the policy see it."""

    stft: Complex[Array, "*b f n"]
    grid_magnitude: Float[Array, "*b h w"]
    log_mag: Float[Array, "*b h w"]


class Estimate(NamedTuple):
    """What the reward hears of each sampled mask.

    ``waveform`` is None where the log-frequency shortcut is taken, which never
    inverts the STFT; it has the masked ``magnitude`` instead.
    """

    embedding: Float[Array, "b k g d"]
    waveform: Float[Array, "b k g t"] | None
    magnitude: Float[Array, "b k g h w"] | None = None


class RewardContext(NamedTuple):
    """What an estimate is compared with.

    ``active`` is 1 where the target is in the mixture, else 0.
    ``target_magnitude`` lets masks be scored on the grid without waveforms,
    ``label`` tells targets of one class from others.
    """

    anchor: Float[Array, "b k d"]
    target: Float[Array, "b k t"]
    active: Float[Array, "b k"]
    target_magnitude: Float[Array, "b k h w"] | None = None
    label: Int[Array, "b k"] | None = None


class Rollout(NamedTuple):
    """Masks drawn from the old policy, with all that the surrogate needs.

    ``slope`` is the derivative of the expected reward by the proposal, as far as
    the estimator knows it from the reward's own derivative; None from one that
    only reads rewards. ``advantage`` is None where the slope alone teaches.
    """

    mask: Float[Array, "b k g h w"]
    log_prob_old: Float[Array, "b k g h w"]
    proposal_old: Float[Array, "b k h w"]
    reward: Float[Array, "b k g"]
    advantage: Float[Array, "b k g"] | None
    slope: Float[Array, "b k h w"] | None = None


@runtime_checkable
class SeparatorFn(Protocol):
    """Pure forward pass of a separator, closed over its architecture."""

    def __call__(
        self,
        params: Params,
        model_state: Params,
        log_mag: Float[Array, "b h w"],
        query: Float[Array, "b k d"],
        *,
        train: bool = False,
    ) -> tuple[Float[Array, "b k h w"], Params]:
        """Return mask logits (proposal = sigmoid) and the next model state."""
        ...


@runtime_checkable
class RewardFn(Protocol):
    """A reward, or a weighted sum of rewards."""

    def __call__(
        self, estimate: Estimate, context: RewardContext
    ) -> Float[Array, "b k g"]:
        """Return one scalar per sampled mask."""
        ...


class AdvantageFn(NamedTuple):
    """Pair of pure functions, like an optax transformation.

    ``init() -> state``; ``apply(reward [b k g], active [b k], state) ->
    (advantage [b k g], state)``. Only the moving average has a state.
    """

    init: Callable[[], Any]
    apply: Callable[[Array, Array, Any], tuple[Array, Any]]


@runtime_checkable
class SurrogateFn(Protocol):
    """Reduce per-bin log-ratios and advantages to the objective J."""

    def __call__(
        self,
        log_ratio: Float[Array, "b k g h w"],
        advantage: Float[Array, "b k g"],
    ) -> tuple[Float[Array, ""], Metrics]:
        """Return the objective (to be maximised) and its monitors."""
        ...


@runtime_checkable
class ListenFn(Protocol):
    """Turn sampled masks into what the reward's encoder hears."""

    def __call__(self, mask: Float[Array, "b k g h w"], features: Features) -> Estimate:
        """Return embeddings, with waveforms where they were reconstructed."""
        ...


@runtime_checkable
class AnchorFn(Protocol):
    """Fuse what is known of a target into its reward anchor z*."""

    def __call__(self, batch: MixtureBatch) -> Float[Array, "b k d"]:
        """Return L2-normalised anchors."""
        ...


SampleFn = Callable[[PRNGKeyArray, Float[Array, "..."]], Float[Array, "..."]]
BinFn = Callable[[Float[Array, "..."], Float[Array, "..."]], Float[Array, "..."]]
MaskFn = Callable[[Float[Array, "..."]], Float[Array, "..."]]


class MaskPolicy(NamedTuple):
    """A family of mask distributions around a proposal, as pure functions.

    ``sample(key, proposal)`` draws one mask of the proposal's shape, ``path`` the
    same mask with its derivative by the proposal, and ``mirror`` its antithetic
    twin; both are None where the sampler has none. ``log_prob(proposal, mask)``,
    ``entropy(proposal)`` and ``kl(p, q)`` are per bin; ``mode`` and ``mean`` are
    deterministic masks.
    """

    sample: SampleFn
    log_prob: BinFn
    entropy: MaskFn
    kl: BinFn
    mode: MaskFn
    mean: MaskFn
    path: SampleFn | None = None
    mirror: SampleFn | None = None
