"""The account of what a chain of trainings has done, and of its time."""

import json

import pytest

from experiments import ledger
from experiments.ledger import Chain, Ledger


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that is set by hand."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(ledger, "time", clock)
    return clock


def row(name, wall_s, **metrics):
    return {"name": name, "wall_s": wall_s, "metrics": metrics}


def test_times_add_up_to_the_whole(tmp_path, clock):
    account = Ledger(tmp_path / "stages" / "records.json")
    clock.now += 10.0  # what came before the first training
    account.close("prepare", [row("prepare", 0.0)])
    clock.now += 30.0
    account.close("listeners", [row("align-1", 4.0), row("judge", 1.0)])
    clock.now += 7.0
    account.close("rl", [row("rl", 2.0)])
    found = {stage["name"]: stage["wall_s"] for stage in account.stages()}
    # 30 s were shared out 4 to 1: loading and compiling belong to the stages.
    assert found == {"prepare": 10.0, "align-1": 24.0, "judge": 6.0, "rl": 7.0}
    assert sum(found.values()) == clock.now - 100.0


def test_stages_without_a_time_share_evenly(tmp_path, clock):
    account = Ledger(tmp_path / "records.json")
    clock.now += 6.0
    account.close("none", [row("a", 0.0), row("b", 0.0), row("c", 0.0)])
    assert [stage["wall_s"] for stage in account.stages()] == [2.0, 2.0, 2.0]


def test_stages_are_as_a_summary_has_them(tmp_path, clock):
    account = Ledger(tmp_path / "records.json")
    account.close("rl", [row("rl", 2.0, **{"eval/judge": -1.0}) | {"train_s": 1.5}])
    assert account.stages() == [
        {"name": "rl", "wall_s": 0.0, "metrics": {"eval/judge": -1.0}}
    ]
    assert account.seconds("rl") == 1.5


def test_goes_on_where_it_stopped(tmp_path, clock):
    path = tmp_path / "records.json"
    account = Ledger(path)
    clock.now += 5.0
    account.close("prepare", [row("prepare", 0.0)])
    clock.now += 1_000.0  # nobody was at work
    again = Ledger(path)
    assert again.records == account.records
    assert again.has("prepare")
    assert not again.has("listeners")
    clock.now += 3.0
    again.close("listeners", [row("align-1", 1.0)])
    assert sum(stage["wall_s"] for stage in again.stages()) == 8.0
    assert Ledger(path).has("listeners")
    assert [p.name for p in tmp_path.iterdir()] == ["records.json"]


def test_nothing_is_written_before_a_step_has_ended(tmp_path, clock):
    account = Ledger(tmp_path / "stages" / "records.json")
    assert not account.has("prepare")
    assert account.stages() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"other": 1}', "\0"])
def test_damaged_records(tmp_path, text):
    path = tmp_path / "records.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="damaged, expected the records") as caught:
        Ledger(path)
    assert str(caught.value).startswith(str(path))


def test_records_are_readable(tmp_path, clock):
    account = Ledger(tmp_path / "records.json")
    account.close("rl", [row("rl", 2.0)])
    found = json.loads((tmp_path / "records.json").read_text())
    assert [record["step"] for record in found["records"]] == ["rl"]


def test_every_step_has_a_workdir(tmp_path):
    chain = Chain(tmp_path, {}, None, print)
    assert chain.stage_dir("rl") == str(tmp_path / "stages" / "rl")
