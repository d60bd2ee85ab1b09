"""The other processes of a command: who each is told to be, and that none outlives the first."""

from __future__ import annotations

import json
import signal
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from dataset_audit.cluster.places import Node, Plan, Process, carried, given, on_ray, planned
from dataset_audit.cluster.processes import Child, End, Room, here, ranked, started
from dataset_audit.errors import EnvironmentProblem
from dataset_audit.train.ranks import MEETING

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"


class Place:
    """Somewhere else, where nothing runs in truth; ends when it is told to, or only when it is made to."""

    def __init__(self, host: str, gpus: tuple[str, ...] = (), *, ends_by: int = signal.SIGTERM) -> None:
        self.host, self.gpus, self.ends_by = host, gpus, ends_by
        self.environment: Mapping[str, str | None] = {}
        self.signals: list[int] = []

    def start(self, arguments: Sequence[str], folder: str, environment: Mapping[str, str | None]) -> None:
        self.arguments, self.folder, self.environment = arguments, folder, environment

    def ended(self) -> End | None:
        return End(code=-self.ends_by) if self.ends_by in self.signals else None

    def signal(self, number: int) -> None:
        self.signals.append(number)


def test_each_process_is_told_its_number_among_all_and_on_its_machine() -> None:
    told = ranked([("a", ()), ("a", ()), ("b", ())])
    assert [(one["RANK"], one["WORLD_SIZE"]) for one in told] == [("0", "3"), ("1", "3"), ("2", "3")]
    assert [(one["LOCAL_RANK"], one["LOCAL_WORLD_SIZE"]) for one in told] == [
        ("0", "2"),
        ("1", "2"),
        ("0", "1"),
    ]
    assert all("CUDA_VISIBLE_DEVICES" not in one for one in told)


def test_processes_of_one_machine_see_each_others_gpus_and_their_number_is_that_of_their_own() -> None:
    told = ranked([("a", ("5", "6")), ("b", ("GPU-1",)), ("a", ("3",))])
    assert [one["CUDA_VISIBLE_DEVICES"] for one in told] == ["5,3", "GPU-1", "5,3"]
    assert [one["LOCAL_RANK"] for one in told] == ["0", "0", "1"]


def test_all_get_the_same_line_and_folder_and_ranks_go_machine_by_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    places = [Place("c"), Place("a"), Place("b"), Place("a")]
    room = Room(others=places, address="10.0.0.1", host="b", extra={"AUDIT_WORKERS": "2"})
    with started(["forgetting", "photos"], room, 1234) as (others, first):
        assert others.lost() is None
        assert [place.environment["RANK"] for place in places] == ["4", "2", "1", "3"]
        assert {(*place.arguments, place.folder) for place in places} == {
            ("forgetting", "photos", str(tmp_path))
        }
        for environment in (first, *(place.environment for place in places)):
            assert (environment["MASTER_ADDR"], environment["MASTER_PORT"]) == ("10.0.0.1", "1234")
            assert environment["AUDIT_WORKERS"] == "2"
        assert first["RANK"] == "0"
    assert all(place.signals == [signal.SIGTERM] for place in places)


def test_what_does_not_end_when_it_is_told_to_is_made_to() -> None:
    deaf = Place("b", ends_by=signal.SIGKILL)
    with started([], Room(others=[deaf]), 1) as (others, _):
        others.stop(patience=0.05)
        assert deaf.signals == [signal.SIGTERM, signal.SIGKILL]
        assert others.lost() == (1, "b", End(code=-signal.SIGKILL))


def test_when_one_does_not_start_those_before_it_are_ended() -> None:
    class Full(Place):
        def start(self, *_: object) -> None:
            raise OSError(11, "Resource temporarily unavailable")

    first, full = Place("a"), Full("b")
    with (
        pytest.raises(EnvironmentProblem, match="Process 3 of 3 does not start: Resource"),
        started([], Room(others=[first, full], host="a"), 1),
    ):
        pass
    assert first.signals == [signal.SIGTERM]
    assert not full.signals


def test_a_child_says_how_it_ended_and_its_last_line(tmp_path: Path) -> None:
    child = Child()
    (tmp_path / "dataset_audit").mkdir()  # `python -m` looks in the folder first
    (tmp_path / "dataset_audit" / "__init__.py").write_text("raise SystemExit(f'nothing here\\n')")
    child.start(["--version"], str(tmp_path), {"HOME": None})
    until = time.monotonic() + 30
    while (end := child.ended()) is None and time.monotonic() < until:
        time.sleep(0.01)
    assert end == End(code=1, said="nothing here")
    child.signal(signal.SIGTERM)  # too late, and no error


def test_processes_of_this_machine_meet_where_nobody_else_may_enter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    with here(3) as room:
        meeting = Path(room.extra[MEETING] or "")
        assert stat.S_IMODE(meeting.parent.stat().st_mode) == 0o700
        assert (room.extra.get("GLOO_SOCKET_IFNAME") or "lo").startswith("lo")
        assert [type(place) for place in room.others] == [Child, Child]
        meeting.touch()
    assert not meeting.parent.exists()


GPUS = [Node(id="a", cores=8, gpus=2), Node(id="b", cores=12, gpus=4)]


@pytest.mark.parametrize(
    ("nodes", "count", "gpu", "plan"),
    [
        (GPUS, None, True, Plan(count=6, cores=3, gpu=True)),
        (GPUS, 2, True, Plan(count=2, cores=12, gpu=True)),
        (GPUS, None, False, Plan(count=2, cores=12, gpu=False)),
        (GPUS, 4, False, Plan(count=4, cores=4, gpu=False)),
        ([Node(id="a", cores=0, gpus=0), Node(id="b", cores=8, gpus=0)], None, True, Plan(count=2, cores=8, gpu=False)),
        ([Node(id="a", cores=0, gpus=2)], None, True, Plan(count=2, cores=0, gpu=True)),
        ([Node(id="a", cores=4, gpus=0)], 1, True, Plan(count=1, cores=4, gpu=False)),
    ],
    ids=["a GPU each", "fewer", "without GPUs", "several a machine", "a head that only leads", "GPUs alone", "one"],
)  # fmt: skip
def test_each_process_gets_as_many_cores_as_all_can_have(
    nodes: list[Node], count: int | None, gpu: bool, plan: Plan
) -> None:
    assert planned(nodes, "a", count, gpu=gpu) == plan


@pytest.mark.parametrize(("count", "gpu", "there"), [(7, True, "6 GPUs"), (21, False, "20 cores")])
def test_more_processes_than_there_is_room_for_are_refused_at_once(count: int, gpu: bool, there: str) -> None:
    with pytest.raises(EnvironmentProblem, match=f"{count} processes .* {there} in all"):
        planned(GPUS, "a", count, gpu=gpu)


def test_what_a_job_reserved_for_its_first_process_is_taken() -> None:
    unasked = {JOB: "{}", "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1", "CUDA_VISIBLE_DEVICES": "0,1"}
    assert given({JOB: "{}", "CUDA_VISIBLE_DEVICES": "3"}) == ("3",)
    assert given({JOB: "{}", "CUDA_VISIBLE_DEVICES": ""}) == ()
    assert given(unasked) is None
    assert given({"CUDA_VISIBLE_DEVICES": "3"}) is None


def test_settings_travel_and_threads_only_if_somebody_said_how_many() -> None:
    plain = {"AUDIT_WORKERS": "2", "NCCL_DEBUG": "INFO", "HOME": "/root"}
    assert carried(plain) == {"AUDIT_WORKERS": "2", "NCCL_DEBUG": "INFO", "OMP_NUM_THREADS": None}
    assert carried({"OMP_NUM_THREADS": "4"}) == {"OMP_NUM_THREADS": "4"}
    assert carried({JOB: '{"runtime_env": {}}', "OMP_NUM_THREADS": "1"}) == {"OMP_NUM_THREADS": None}
    said = json.dumps({"runtime_env": {"env_vars": {"OMP_NUM_THREADS": "4"}}})
    assert carried({JOB: said, "OMP_NUM_THREADS": "4"}) == {"OMP_NUM_THREADS": "4"}


def test_a_machine_that_lacks_the_folder_says_so(tmp_path: Path) -> None:
    assert Process().run(["--version"], str(tmp_path / "absent"), {}) == End(
        code=1, said=f"No such file or directory: {tmp_path / 'absent'}"
    )


def test_a_client_that_the_others_could_not_reach_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(EnvironmentProblem, match="no part of its cluster"), on_ray(2, device="cpu"):
        pass
