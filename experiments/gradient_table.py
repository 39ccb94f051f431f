"""How good each estimator's gradient is, on one batch and one set of parameters."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from experiments import build, policy_parts
from experiments.datasets import open_banks, open_data, training_batches
from experiments.settings import Settings
from experiments.starts import load_start
from marssep_jax.config import PolicyConfig, UpdateConfig
from marssep_jax.types import MixtureBatch
from marssep_jax.update.probe import make_reward_gradient

Vector = np.ndarray
Row = dict[str, Any]


class Case(NamedTuple):
    """A policy and an estimator; a patch of (1, 1) means independent bins."""

    family: str
    patch: tuple[int, int]
    estimator: str


ADVANTAGES = {
    "score": "leave_one_out",
    "antithetic": "leave_pair_out",
    "pathwise": "leave_one_out",
}
"""Of each estimator; those that are not named here ask for the plain one."""

CASES = (
    Case("beta", (1, 1), "score"),
    Case("beta", (1, 1), "pathwise"),
    Case("beta", (1, 1), "antithetic"),
    Case("beta", (1, 1), "control_variate"),
    Case("beta", (1, 1), "hybrid"),
    *(Case("beta", patch, "score") for patch in ((4, 8), (8, 32), (16, 64))),
    Case("beta", (8, 32), "antithetic"),
    Case("beta", (8, 32), "control_variate"),
    Case("beta", (8, 32), "pathwise"),
    *(Case("patch_beta", patch, "score") for patch in ((4, 8), (8, 32), (16, 64))),
    Case("patch_beta", (8, 32), "control_variate"),
    Case("patch_beta", (8, 32), "pathwise"),
)


def measure(
    settings: Settings,
    cases: Sequence[Case],
    num_estimates: int,
    num_paths: int,
    *,
    announce: Callable[..., None] = print,
) -> list[Row]:
    """Compare estimators on the first training batch of a policy stage.

    Args:
      settings: of the policy stage; reward, listener and group size are its own.
      cases: policies and estimators.
      num_estimates: estimates of each.
      num_paths: pathwise gradients that a reference is the mean of.
      announce: prints a line.

    Raises:
      ValueError: settings, data or models that do not fit.
    """
    parts = build.make_parts(settings)
    data = open_data(settings.data, settings.frontend, settings.encoder.image_size)
    start = load_start(settings, parts)
    banks = open_banks(settings, data, start)
    batches = training_batches(settings, data.catalogue, banks, 0)
    batch = next(batches)
    batches.close()
    params, model_state = start.separator or parts.separator.init(
        jax.random.key(settings.seed), settings.frontend
    )
    bench = _Bench(settings, parts, start.reward.params, params, model_state, batch)
    paper = bench.reference(Case("beta", (1, 1), "pathwise"), num_paths)
    references = {("beta", (1, 1)): paper}
    rows = []
    for case in cases:
        family = (case.family, case.patch)
        if family not in references:
            references[family] = bench.reference(case, num_paths)
        vectors, seconds = bench.estimates(case, num_estimates)
        rows.append(_row(case, vectors, seconds, references[family], paper))
        announce(_line(_cells(rows[-1])))
    return rows


class _Bench:
    """One batch and one set of parameters that all gradients are taken at."""

    def __init__(
        self,
        settings: Settings,
        parts: build.Parts,
        encoder_params: Any,
        params: Any,
        model_state: Any,
        batch: MixtureBatch,
    ) -> None:
        self._settings, self._parts = settings, parts
        self._encoder_params = encoder_params
        self._arguments = (params, model_state, batch)

    def reference(self, case: Case, count: int) -> Vector:
        """Average pathwise gradients of a case's policy, by other keys."""
        gradient = self._gradient(case._replace(estimator="pathwise"))
        keys = jax.random.split(jax.random.key(1_000), count)
        return np.mean([gradient(key) for key in keys], axis=0)

    def estimates(self, case: Case, count: int) -> tuple[Vector, float]:
        """Return gradients [count, parameters], and the least time of one."""
        gradient = self._gradient(case)
        gradient(jax.random.key(0))  # compiles
        vectors, times = [], []
        for key in jax.random.split(jax.random.key(2_000), count):
            begun = time.perf_counter()
            vectors.append(gradient(key))
            times.append(time.perf_counter() - begun)
        return np.stack(vectors), min(times)

    def _gradient(self, case: Case) -> Callable[[jax.Array], Vector]:
        settings = self._settings
        policy = PolicyConfig(
            family=case.family,
            kappa=settings.policy.kappa,
            noise_patch=case.patch if case.family == "beta" else (1, 1),
            action_patch=case.patch,
        )
        hearing = policy_parts.make_hearing(
            dataclasses.replace(settings, policy=policy),
            self._parts,
            self._encoder_params,
        )
        advantage = ADVANTAGES.get(case.estimator, "centred")
        size = settings.rl.group_size
        update = UpdateConfig(
            group_size=size, estimator=case.estimator, advantage=advantage
        )
        made = make_reward_gradient(
            hearing,
            policy_parts.make_estimator(update),
            policy_parts.make_advantage(update),
        )

        @jax.jit
        def compiled(params: Any, state: Any, batch: Any, key: jax.Array) -> jax.Array:
            return ravel_pytree(made(params, state, batch, key))[0]

        return lambda key: np.asarray(compiled(*self._arguments, key), np.float64)


def cosine(first: Vector, second: Vector) -> float:
    """Return the cosine of two vectors, NaN where one is 0."""
    with np.errstate(invalid="ignore"):
        norms = np.linalg.norm(first) * np.linalg.norm(second)
        return float(first @ second / norms)


def _row(
    case: Case, vectors: Vector, seconds: float, reference: Vector, paper: Vector
) -> Row:
    single = [cosine(vector, reference) for vector in vectors]
    half = len(vectors) // 2
    pairs = zip(vectors[:half], vectors[half:], strict=False)
    return {
        "policy": case.family,
        "patch": list(case.patch),
        "estimator": case.estimator,
        "cos": float(np.mean(single)),
        "cos_sd": float(np.std(single)),
        "cos_mean": cosine(vectors.mean(axis=0), reference),
        "agreement": float(np.mean([cosine(a, b) for a, b in pairs])),
        "cos_paper": cosine(reference, paper),
        "seconds": seconds,
    }


COLUMNS = ("cos", "cos_sd", "cos_mean", "agreement", "cos_paper", "seconds")


def markdown(rows: Sequence[Row]) -> str:
    """Lay the rows out as a table."""
    head = [
        "policy",
        "patch",
        "estimator",
        *(name.replace("_", " ") for name in COLUMNS),
    ]
    return "\n".join(
        _line(each) for each in (head, ["---"] * len(head), *map(_cells, rows))
    )


def _cells(row: Row) -> list[str]:
    patch = " x ".join(str(size) for size in row["patch"])
    numbers = [f"{row[name]:.3f}" for name in COLUMNS]
    return [row["policy"], patch, row["estimator"], *numbers]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
