"""The roofline: its limits, its layers, its profile and its picture.

Nothing here depends on how long anything took.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments.benchmarks import (
    attribution,
    layers,
    limits,
    pictures,
    profile,
    roofline,
    updates,
)
from experiments.benchmarks.attribution import Part
from experiments.benchmarks.limits import Demand, Limits
from experiments.benchmarks.profile import Event
from experiments.benchmarks.timing import Timing, alternate
from experiments.scaling.programs import describe
from marssep_jax.config import FrontendConfig, SeparatorConfig
from marssep_jax.models.separator import QueriedUNet
from marssep_jax.policy import beta_policy

# Wide enough that nearly all operations are those of the convolutions.
WIDE = updates.TINY._replace(
    frontend=FrontendConfig(num_samples=8_191, num_rows=64),
    separator=SeparatorConfig(embed_dim=8, num_channels=4, widths=(64, 64)),
)


@pytest.mark.parametrize("precision", roofline.PRECISIONS)
def test_limits_are_positive(precision):
    jobs = limits.limit_jobs(True, precision)
    assert jobs.keys() == {"matrix_64", "triad"}
    found = limits.find_limits(alternate(jobs, 1), True)
    assert min(found) > 0
    # In place, again and again: x = 1 + x / 2 goes to 2.
    for _ in range(30):
        value = jobs["triad"]()
    np.testing.assert_allclose(value, 2.0, rtol=1e-6)


def test_limits_are_those_of_the_best_round():
    times = {"matrix_64": Timing((2.0, 1.0)), "triad": Timing((4.0, 0.5))}
    found = limits.find_limits(times, True)
    assert found == (2 * 64**3, 12 * limits.TINY_COUNT / 0.5)
    first, second = limits.round_limits(times, True)
    assert second == found
    assert (first.flops_per_s, first.bytes_per_s) == (found[0] / 2, found[1] / 8)
    row = limits.roofline_row(
        "a", Timing((3.0, 4.0)), Demand(found[0], 0.0), found, [first, second]
    )
    assert (row["speedup"], row["min_max"]) == (1 / 3, [1 / 4, 2 / 3])


def test_a_row_is_the_share_of_the_roofline():
    peak = Limits(flops_per_s=1e12, bytes_per_s=1e9)
    row = limits.roofline_row("a", Timing((4.0, 5.0)), Demand(2e12, 1e9), peak)
    assert (row["speedup"], row["bound"]) == (0.5, "operations")
    assert (row["share_of_peak"], row["share_of_bandwidth"]) == (0.5, 0.25)
    assert (row["tera_flops"], row["gigabytes"], row["intensity"]) == (2, 1, 2000)
    assert (row["flops_per_s"], row["reason"]) == (5e11, "reached")
    assert row["limits"] == {"flops_per_s": 1e12, "bytes_per_s": 1e9}
    row = limits.roofline_row("a", Timing((4.0,)), Demand(1e12, 3e9), peak)
    assert (row["speedup"], row["bound"]) == (0.75, "memory")
    assert row["reason"].startswith("memory: 3 GB take 3e+03 ms")
    row = limits.roofline_row("a", Timing((4.0,)), Demand(1e12, 5e8), peak)
    assert row["reason"].startswith("left: 3e+03 of 4e+03 ms; operations take 1e+03 ms")


def test_the_compiler_counts_a_convolution_as_we_do():
    found = {layer.name: layer for layer in layers.network_layers(WIDE, "float32")}
    assert list(found) == ["down_1", "down_2", "up_2", "up_1"]
    layer = found["down_2"]
    # 64 x 32 bins, halved twice: 16 x 8 places of 4 x 4 taps; forth and twice back.
    needed = 3 * 2 * (16 * 8) * (4 * 4) * 64 * 64
    assert layers.needed_flops(layer) == needed
    program = layers.compile_layer(layer)
    assert program.counted == "compiler"
    # 9 % of the forward pass's taps are on padding; there are few additions.
    assert 0.9 * needed < program.demand.flops < 1.05 * needed


@pytest.mark.slow
def test_a_step_has_the_operations_of_its_layers():
    steps = updates.our_steps(WIDE, updates.draw_batch(WIDE))
    flops = describe(steps["supervised"].compiled())["flops"]
    found = layers.network_layers(WIDE, "float32")
    needed = sum(layers.needed_flops(layer) for layer in found)
    # Doubling, norms, STFT, loss and Adam have the rest.
    assert 0.9 * needed < flops < 1.6 * needed


@pytest.mark.parametrize("name", ["down_1", "down_3", "up_3", "up_1"])
def test_layers_are_those_of_the_network(name, quick_compile):
    sizes = updates.TINY
    (layer,) = (
        found for found in layers.network_layers(sizes, "float32") if found.name == name
    )
    module = QueriedUNet(sizes.separator)
    frontend = sizes.frontend
    grid = (sizes.batch_size, frontend.num_rows, frontend.num_frames)
    log_mag = jax.random.normal(jax.random.key(1), grid)
    query = jax.random.normal(jax.random.key(2), (sizes.batch_size, 2, 8))
    variables = module.init(jax.random.key(3), log_mag, query)
    weight = jax.random.normal(jax.random.key(4), (1, 2, *grid[1:]))

    def loss(params, added):
        seen = {}

        def watch(call, args, kwargs, context):
            output = call(*args, **kwargs)
            if context.module.name == name:
                seen["inputs"] = args
                output = output + added
            return output

        with nn.intercept_methods(watch):
            logits, _ = module.apply(
                {**variables, "params": params},
                log_mag,
                query,
                train=True,
                mutable=["batch_stats"],
            )
        return jnp.sum(weight * logits), seen["inputs"]

    added = jnp.zeros(layer.output.shape)
    params = variables["params"]
    (expected, slope), inputs = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(
        params, added
    )
    shapes = [(value.shape, value.dtype) for value in inputs]
    assert shapes == [(value.shape, value.dtype) for value in layer.inputs]
    run = jax.jit(layers.with_gradients(layer.module))
    output, (by_params, by_inputs) = run(params["unet"][name], inputs, slope)
    assert output.shape == layer.output.shape
    assert [value.shape for value in by_inputs] == [value.shape for value in inputs]
    for key, value in by_params.items():
        wanted = expected["unet"][name][key]
        # float32, summed in another order by another program.
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(value, wanted, atol=1e-4 * scale)


@pytest.mark.parametrize(
    ("op_name", "files", "part"),
    [
        ("jit(step)/jvp(QueriedUNet)/unet/down_2/conv", "", Part("down_2", False)),
        (
            "jit(step)/transpose(jvp(QueriedUNet))/unet/up_1/mul",
            "marssep_jax/update/gradients.py",
            Part("up_1", True),
        ),
        ("jit(step)/jvp(QueriedUNet)/unet/down_norm_2/add", "", Part("norms", False)),
        ("jit(step)/jvp(QueriedUNet)/gate/mul", "", Part("gates", False)),
        (
            "jit(step)/jvp(QueriedUNet)/unet/jit(relu)",
            "",
            Part("activations and skips", False),
        ),
        ("jit(a)/jit(_threefry_split)/b", "a/encoders/b.py", Part("sampling", False)),
        ("jit(a)/mul", "b/marssep_jax/update/gradients.py", Part("optimiser", False)),
        ("jit(a)/mul", "elsewhere.py", Part("other", False)),
    ],
)
def test_names_tell_parts(op_name, files, part):
    assert attribution.find_part(op_name, frozenset([files])) == part


def test_no_moment_counts_twice():
    second = 1e9
    events = [
        Event(0, 10 * second, "while"),  # counts only where nothing else runs
        Event(1 * second, 3 * second, "a"),
        Event(2 * second, 4 * second, "b"),
        Event(2 * second, 4 * second, "b"),  # the same on another line
        Event(12 * second, 13 * second, "a"),
    ]
    found = profile.share_time(events, {"while"})
    assert found == {"while": 7.0, "a": 2.5, "b": 1.5}
    program = attribution.Program("m", {"a": Part("p", True)}, frozenset({"while"}))
    rows = {row.pop("part"): row for row in profile.sum_parts(events, program, 2)}
    assert rows["p"] == {"forward_s": 0.0, "backward_s": 1.25}
    assert rows["other"] == {"forward_s": 4.25, "backward_s": 0.0}
    assert rows[profile.BETWEEN]["forward_s"] == 1.0


def test_a_traced_program_is_told_by_its_parts(tmp_path):
    policy = beta_policy()
    module = QueriedUNet(SeparatorConfig(embed_dim=4, num_channels=2, widths=(4, 4)))
    log_mag, query = jnp.ones((1, 8, 8)), jnp.ones((1, 1, 4))
    variables = module.init(jax.random.key(0), log_mag, query)

    def loss(params, key):
        given = {**variables, "params": params}
        logits = module.apply(given, log_mag, query)
        proposal = jax.nn.sigmoid(logits)
        mask = policy.sample(key, jax.lax.stop_gradient(proposal))
        return jnp.mean(policy.log_prob(proposal, mask))

    compiled = jax.jit(jax.grad(loss)).lower(variables["params"], jax.random.key(1))
    compiled = compiled.compile()

    def job():
        return compiled(variables["params"], jax.random.key(1))

    jax.block_until_ready(job())
    rows = profile.profile_steps(job, compiled.as_text(), tmp_path)["profile"]
    parts = {row["part"]: row for row in rows}
    named = {"down_1", "down_2", "up_2", "up_1", "sampling", "log-densities"}
    assert parts.keys() >= named
    for name in ("down_2", "up_2"):
        assert min(parts[name]["forward_s"], parts[name]["backward_s"]) > 0
    assert parts["sampling"]["backward_s"] == 0
    assert list(tmp_path.rglob("*.xplane.pb"))
    with pytest.raises(ValueError, match="expected that of a compiled program"):
        attribution.read_program("nothing")
    with pytest.raises(profile.NotMeasuredError, match="no operation of jit_else"):
        profile.read_trace(tmp_path, "jit_else")


def test_products_are_told_from_what_is_around_them():
    def mix(value):
        return jnp.sin(value @ value)[::-1] + 1.0

    value = jnp.ones((64, 64))
    compiled = jax.jit(mix).lower(value).compile()
    found = profile.profile_products(lambda: compiled(value), compiled.as_text())
    assert min(found["products_s"], found["others_s"]) > 0


def drawn_report():
    measured = Limits(1e12, 1e11)
    found = [
        limits.roofline_row(
            f"roofline.{part}_float32",
            Timing((1.0 + place / 7,)),
            Demand(1e11 * (1 + place % 5), 1e10),
            measured,
            profile=[
                {"part": "optimiser", "forward_s": 0.7, "backward_s": 0.0},
                {"part": "down_2", "forward_s": 0.1, "backward_s": 0.2},
                {"part": "gates", "forward_s": 1e-4, "backward_s": 0.0},
            ],
        )
        for place, part in enumerate(
            ("supervised", "rl_g8", "layer_down_1", "layer_up_1", "optimiser")
        )
    ]
    found.append({"name": "roofline.supervised_bfloat16", "not_measured": "no"})
    found.append({"name": "sampler.beta_vs_uniform", "speedup": 1.0})
    return {"machine": {"device": "cpu", "cores": 2}, "tiny": False, "rows": found}


def test_the_picture_is_drawn(tmp_path):
    path = tmp_path / "a.png"
    pictures.draw(drawn_report(), path)
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="precision is 'bfloat16'"):
        pictures.draw(drawn_report(), path, "bfloat16")


def test_all_promised_rows_are_named():
    parts = ("supervised", "rl_g8", "layer_down_7", "layer_up_1", "outside_rl_g8")
    for precision in roofline.PRECISIONS:
        names = {f"roofline.{part}_{precision}" for part in parts}
        assert names <= set(roofline.NAMES)


@pytest.mark.slow
def test_the_programs(program, tmp_path):
    report, png, traces = (tmp_path / name for name in ("a.json", "a.png", "traces"))
    options = ("--tiny", f"--json={report}", f"--trace={traces}")
    outcome = program("experiments.benchmark", "--suite=roofline", *options)
    assert outcome.code == 0, outcome.err
    rows = {row["name"]: row for row in json.loads(report.read_text())["rows"]}
    assert tuple(rows) == roofline.NAMES
    for precision in roofline.PRECISIONS:
        row = rows[f"roofline.rl_g8_{precision}"]
        parts = {part["part"] for part in row["profile"]}
        assert parts >= {"down_2", "up_2", "optimiser", "sampling", "reward's ear"}
        assert list((traces / f"rl_g8_{precision}").rglob("*.xplane.pb"))
        assert rows[f"roofline.layer_up_3_{precision}"]["tera_flops"] > 0
    outcome = program(
        "experiments.roofline_chart", f"--report={report}", f"--png={png}"
    )
    assert outcome.code == 0, outcome.err
    assert png.read_bytes().startswith(b"\x89PNG")
    outcome = program("experiments.benchmark", "--suite=sampler", f"--trace={traces}")
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert program("experiments.roofline_chart", f"--png={png}").code == 1
