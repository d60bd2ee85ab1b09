"""``audit prune`` under faults: killed at any operation, out of space, eight at once, other people's tables."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_audit.commands.prune import Config, run
from dataset_audit.errors import AuditError, DataError, EnvironmentProblem, MismatchError, UsageError
from dataset_audit.progress import Silent
from dataset_audit.report.document import Report
from dataset_audit.select.budget import Keep
from dataset_audit.tables import files, sidecar
from dataset_audit.tables.manifest import ManifestTable
from dataset_audit.tables.provenance import Provenance
from dataset_audit.tables.scores import ScoreTable

ROOT = Path(__file__).parents[2]
N = 40


def columns(n: int = N) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "index": np.arange(n),
        "uid": [f"{value:032x}" for value in rng.choice(10**9, n, replace=False)],
        "label": np.arange(n) % 2,
        "forgetting": rng.integers(0, 5, n).astype(np.float32),
        "aum": rng.normal(1, 2, n).astype(np.float32),
    }


def ours(path: Path, **more: Any) -> Path:
    data = columns() | more
    n = len(data["index"])
    origin = Provenance(spec="drawn", fingerprint="f" * 64, n=n, class_names=("cat", "dog"))
    document = sidecar.document("scores", path, rows=n, config={}, facts={"trained": True})
    ScoreTable.of(data, origin).write(path, document=document)
    return path


def foreign(path: Path, **data: Any) -> Path:
    pq.write_table(pa.table({"index": list(range(10))} | data), path)
    return path


def prune(scores: Path, keep: str = "0.5", **options: Any) -> tuple[Report, Silent]:
    progress = Silent()
    options = {"out": scores.parent / "manifest.parquet", "policy": "hardest", **options}
    return run(Config(scores=scores, keep=Keep.parse(keep), **options), progress), progress


def kept(path: Path) -> list[int]:
    table = ManifestTable.read(path).data
    return table.filter(table["keep"])["index"].to_pylist()  # type: ignore[no-any-return]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith(".lock")}


def temps(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".tmp")]


# --- killed -----------------------------------------------------------------------------------------------------

KILLED = """
    import os, signal, sys
    from pathlib import Path
    import numpy, pyarrow.parquet
    from dataset_audit.commands.prune import Config, run
    from dataset_audit.progress import Silent
    from dataset_audit.select.budget import Keep
    folder, keep = Path(sys.argv[1]), sys.argv[2]
    sync = os.fsync

    def attempt(folder, at):
        count = 0
        def hit():
            nonlocal count
            count += 1
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)
        def writes(mode, flags):
            return (isinstance(mode, str) and set(mode) & set("wax+")) or (flags or 0) & (os.O_WRONLY | os.O_RDWR)
        def hook(event, arguments):
            if event in ("os.rename", "os.remove", "os.mkdir", "os.chmod", "os.truncate") or (
                event == "open" and str(folder) in str(arguments[0]) and writes(*arguments[1:])
            ):
                hit()
        os.fsync = lambda handle: (hit(), sync(handle))[1]
        sys.addaudithook(hook)
        scores, out = folder / "scores.parquet", folder / "manifest.parquet"
        run(Config(scores=scores, keep=Keep.parse(keep), policy="hardest", out=out, force=True), Silent())
        return count

    # one child per operation, forked from a process that has everything imported: a millisecond each
    for at in range(1, 200):
        child = os.fork()
        if not child:
            counted = attempt(folder / str(at), at)
            os._exit(0 if counted < at else 9)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            print(at, os.WEXITSTATUS(status))
            break
"""


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders 1, 2, ...: a finished manifest of half the rows, then a run for a quarter killed at operation n."""
    base = tmp_path_factory.mktemp("crashed")
    made = base / "made"
    made.mkdir()
    prune(ours(made / "scores.parquet"), "0.5")
    (made / ".manifest.parquet.lock").unlink()
    for at in range(1, 60):
        (base / str(at)).mkdir()
        for name, data in bytes_of(made).items():
            (base / str(at) / name).write_bytes(data)
    done = child(KILLED, base, "0.25")
    assert done.returncode == 0, done.stderr
    last, code = done.stdout.split()
    assert code == "0"
    assert int(last) < 60
    (base / "last").write_text(last)
    return base


def child(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True, text=True, cwd=ROOT, timeout=100, check=False,
    )  # fmt: skip


def normal(note: bytes) -> dict[str, object]:
    """Return a sidecar without what may differ between two calls."""
    document: dict[str, object] = json.loads(note)
    return {key: value for key, value in document.items() if key not in {"run", "command"}}


def test_p1_p2_killed_at_any_operation_the_output_is_old_new_or_refused_and_the_next_run_completes_it(
    crashed: Path,
) -> None:
    last = int((crashed / "last").read_text())
    old, new = bytes_of(crashed / "made"), bytes_of(crashed / str(last))
    assert old["manifest.parquet"] != new["manifest.parquet"]
    states = []
    for at in range(1, last):
        folder = crashed / str(at)
        found = bytes_of(folder)
        assert found["scores.parquet"] == old["scores.parquet"]
        assert found["scores.audit.json"] == old["scores.audit.json"]
        table, note = found["manifest.parquet"], found["manifest.audit.json"]
        assert table in (old["manifest.parquet"], new["manifest.parquet"])
        if table == old["manifest.parquet"]:
            assert note == old["manifest.audit.json"]
            assert len(kept(folder / "manifest.parquet")) == N // 2
            states.append("old")
        elif note == old["manifest.audit.json"]:
            with pytest.raises(DataError, match="unfinished"):
                ManifestTable.read(folder / "manifest.parquet")
            states.append("between")
        else:
            assert normal(note) == normal(new["manifest.audit.json"])
            states.append("new")
        report, _ = prune(folder / "scores.parquet", "0.25", force=states[-1] == "old")
        # what was between is rolled forward, not made again
        assert ("nothing_to_do" in report.summary) == (states[-1] != "old")
        after = bytes_of(folder)
        assert temps(folder) == []
        assert after["manifest.parquet"] == new["manifest.parquet"]
        assert normal(after["manifest.audit.json"]) == normal(new["manifest.audit.json"])
    assert states == sorted(states, key=["old", "between", "new"].index)
    assert states.count("between") == 1
    assert states.count("old") >= 8
    assert "new" in states


def test_p1_killed_on_the_first_run_no_reader_takes_what_is_there_for_finished(tmp_path: Path) -> None:
    """Without an old pair; a table alone is refused by strict readers and made good by the next run."""
    for at in range(1, 60):
        (tmp_path / str(at)).mkdir()
        ours(tmp_path / str(at) / "scores.parquet")
    done = child(KILLED, tmp_path, "0.25")
    last = int(done.stdout.split()[0])
    wanted = bytes_of(tmp_path / str(last))
    alone = 0
    for at in range(1, last):
        folder = tmp_path / str(at)
        out, beside = folder / "manifest.parquet", folder / "manifest.audit.json"
        assert out.exists() or not beside.exists()
        if out.exists():
            assert out.read_bytes() == wanted["manifest.parquet"]
        alone += out.exists() and not beside.exists()
        prune(folder / "scores.parquet", "0.25")
        assert temps(folder) == []
        assert out.read_bytes() == wanted["manifest.parquet"]
        assert normal(beside.read_bytes()) == normal(wanted["manifest.audit.json"])
    assert alone == 1


# --- no space ---------------------------------------------------------------------------------------------------

LIMITED = """
    import resource, sys
    from pathlib import Path
    from dataset_audit.commands.prune import Config, run
    from dataset_audit.errors import EnvironmentProblem
    from dataset_audit.progress import Silent
    from dataset_audit.select.budget import Keep
    folder, limit = Path(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        run(Config(scores=folder / "scores.parquet", keep=Keep.parse("0.25"), policy="hardest",
                   out=folder / "manifest.parquet", force=True), Silent())
    except EnvironmentProblem as error:
        print(error)
        sys.exit(error.exit_code)
"""


@pytest.mark.parametrize("limit", [0, 100, 1000, -1], ids="P7-limit-{}".format)
@pytest.mark.parametrize("again", [False, True], ids=["new", "over-an-old-one"])
def test_a_file_that_may_not_grow_leaves_the_old_pair_and_nothing_else(
    tmp_path: Path, limit: int, again: bool
) -> None:
    """A limit of -1 stands for one byte less than the larger file of the pair needs."""
    scores = ours(tmp_path / "scores.parquet")
    if limit < 0:
        prune(scores, "0.25")
        limit = max(path.stat().st_size for path in tmp_path.glob("manifest.*")) - 1
        for path in tmp_path.glob("manifest.*"):
            path.unlink()
    if again:
        prune(scores)
    before = bytes_of(tmp_path)
    done = child(LIMITED, tmp_path, limit)
    assert done.returncode == 4, done.stderr
    assert "File too large" in done.stdout
    assert "manifest" in done.stdout
    assert bytes_of(tmp_path) == before
    prune(scores, "0.25", force=True)  # with room again
    assert len(kept(tmp_path / "manifest.parquet")) == N // 4


# --- eight at once ----------------------------------------------------------------------------------------------

TOGETHER = """
    import os, sys, time
    from pathlib import Path
    import numpy, pyarrow.parquet
    from dataset_audit.commands.prune import Config, run
    from dataset_audit.errors import AuditError
    from dataset_audit.progress import Silent
    from dataset_audit.select.budget import Keep
    folder, rounds, same = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "same"
    for number in range(rounds):
        out = folder / f"m{number}.parquet"
        start = time.monotonic() + 0.05
        children = []
        for i in range(8):
            child = os.fork()
            if not child:
                keep = "0.5" if same else str(10 + i)
                code = 0
                while time.monotonic() < start:
                    pass
                try:
                    report = run(Config(scores=folder / "scores.parquet", keep=Keep.parse(keep), policy="hardest",
                                        out=out), Silent())
                    code = 10 if report.summary.get("nothing_to_do") else 0
                except AuditError as error:
                    code = error.exit_code
                    if code == 4 and error.id != "E-in-use":
                        code = 70
                os._exit(code)
            children.append(child)
        print(*sorted(os.WEXITSTATUS(os.waitpid(child, 0)[1]) for child in children))
"""


@pytest.mark.parametrize("same", ["same", "other"], ids="H8-{}-configuration".format)
def test_of_eight_writers_of_one_output_exactly_one_writes(tmp_path: Path, same: str) -> None:
    ours(tmp_path / "scores.parquet")
    rounds = 10
    done = child(TOGETHER, tmp_path, rounds, same)
    results = [[int(code) for code in line.split()] for line in done.stdout.splitlines()]
    assert len(results) == rounds, done.stderr
    for number, codes in enumerate(results):
        assert codes.count(0) == 1, codes
        assert set(codes) <= ({0, 4, 10} if same == "same" else {0, 2, 4}), codes
        assert sidecar.verify(tmp_path / f"m{number}.parquet", "manifest") == "finished"
    assert temps(tmp_path) == []


def test_h8_two_outputs_in_one_folder_do_not_wait_for_each_other(tmp_path: Path) -> None:
    scores = ours(tmp_path / "scores.parquet")
    with files.locked(tmp_path / "a.parquet"):
        prune(scores, out=tmp_path / "b.parquet")
        with pytest.raises(EnvironmentProblem, match="in use by pid") as raised:
            prune(scores, out=tmp_path / "a.parquet")
    assert raised.value.exit_code == 4
    assert not (tmp_path / "a.parquet").exists()


READERS = """
    import os, sys
    from pathlib import Path
    import numpy
    from dataset_audit.commands.prune import Config, run
    from dataset_audit.errors import DataError
    from dataset_audit.progress import Silent
    from dataset_audit.select.budget import Keep
    from dataset_audit.tables.manifest import ManifestTable
    folder = Path(sys.argv[1])
    out = folder / "manifest.parquet"
    def write(number):
        run(Config(scores=folder / "scores.parquet", keep=Keep.parse(str(10 + number % 2)), policy="hardest",
                   out=out, force=True), Silent())
    write(0)
    child = os.fork()
    if not child:
        for number in range(40):
            write(number)
        os._exit(0)
    seen = set()
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        try:
            table = ManifestTable.read(out)
        except DataError as error:
            seen.add("refused")
            continue
        rows, said = len(table), int(table.choice["audit.keep"].split(":")[1].split(",")[0])
        seen.add("whole" if rows == said else f"{rows} rows, {said} in the footer")
    print(*sorted(seen), sep=";")
"""


def test_h8_a_reader_beside_a_writer_sees_a_whole_pair_or_is_refused(tmp_path: Path) -> None:
    ours(tmp_path / "scores.parquet")
    done = child(READERS, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in {"whole", "refused;whole"}


# --- what may be overwritten ------------------------------------------------------------------------------------


def as_symlink(path: Path, scores: Path) -> None:
    path.symlink_to(scores)


def as_hardlink(path: Path, scores: Path) -> None:
    os.link(scores, path)


def as_dotted(path: Path, scores: Path) -> None:
    return


LINKS: dict[str, Callable[[Path, Path], None]] = {
    "G6-symlink": as_symlink, "G6-hard-link": as_hardlink, "G6-dotted": as_dotted,
}  # fmt: skip


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("force", [False, True])
def test_an_input_is_never_overwritten(tmp_path: Path, link: str, force: bool) -> None:
    scores = ours(tmp_path / "scores.parquet")
    out = tmp_path / "sub" / ".." / "scores.parquet" if link == "G6-dotted" else tmp_path / "out.parquet"
    (tmp_path / "sub").mkdir()
    LINKS[link](out, scores)
    before = scores.read_bytes()
    with pytest.raises(UsageError, match="never overwritten"):
        prune(scores, out=out, force=force)
    assert scores.read_bytes() == before


def test_g6_the_sidecar_of_an_input_is_never_overwritten(tmp_path: Path) -> None:
    """``scores`` and ``scores.parquet`` would share ``scores.audit.json``."""
    scores = ours(tmp_path / "scores")
    before = bytes_of(tmp_path)
    with pytest.raises(UsageError, match=r"scores\.audit\.json is an input"):
        prune(scores, out=tmp_path / "scores.parquet", force=True)
    assert bytes_of(tmp_path) == before


def test_g6_embeddings_are_an_input_too(tmp_path: Path) -> None:
    scores, vectors = ours(tmp_path / "scores.parquet"), tmp_path / "e.parquet"
    pq.write_table(pa.table({"e": np.zeros((N, 2)).tolist()}), vectors)
    with pytest.raises(UsageError, match="is an input"):
        prune(scores, out=vectors, embeddings=vectors, policy="moderate", force=True)


OUTS: dict[str, tuple[str, type[AuditError], int]] = {
    "G6-folder": ("folder", UsageError, 2),
    "G6-missing-parent": ("absent/m.parquet", UsageError, 2),
    "G6-dev-full": ("/dev/full", EnvironmentProblem, 4),
    "G6-dash": ("-", UsageError, 2),
    "G6-csv": ("m.csv", UsageError, 2),
    "P10-foreign": ("foreign.parquet", UsageError, 2),
    "P10-text": ("text.parquet", UsageError, 2),
    "G6-pipe": ("pipe.parquet", UsageError, 2),
}


@pytest.mark.parametrize(("name", "kind", "code"), OUTS.values(), ids=OUTS)
def test_an_output_that_cannot_or_must_not_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: type[AuditError], code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    scores = ours(tmp_path / "scores.parquet")
    (tmp_path / "folder").mkdir()
    foreign(tmp_path / "foreign.parquet")
    (tmp_path / "text.parquet").write_text("diary")
    os.mkfifo(tmp_path / "pipe.parquet")
    for force in (False, True):
        with pytest.raises(kind) as raised:
            prune(scores, out=Path(name), force=force)
        assert raised.value.exit_code == code
        assert raised.value.do
    assert (tmp_path / "text.parquet").read_text() == "diary"
    assert temps(tmp_path) == []


def test_g6_dev_null_takes_the_manifest(tmp_path: Path) -> None:
    before = sorted(Path("/dev").glob("*null*"))
    report, _ = prune(ours(tmp_path / "scores.parquet"), out=Path("/dev/null"))
    assert report.summary["keep_count"] == N // 2
    assert sorted(Path("/dev").glob("*null*")) == before


def test_p10_the_same_configuration_has_nothing_to_do_and_another_needs_force(tmp_path: Path) -> None:
    scores = ours(tmp_path / "scores.parquet")
    prune(scores)
    before = bytes_of(tmp_path)
    assert prune(scores)[0].summary["nothing_to_do"] is True
    for options in (
        {"seed": 2},
        {"policy": "random"},
        {"balance": True},
        {"all_rows": True},
        {"by": ("aum",)},
    ):
        with pytest.raises(MismatchError):
            prune(scores, **options)
    ours(scores, aum=np.zeros(N, np.float32))
    with pytest.raises(MismatchError, match="scores_sha256"):
        prune(scores)
    for name in ("manifest.parquet", "manifest.audit.json"):
        assert bytes_of(tmp_path)[name] == before[name]
    prune(scores, force=True)
    assert bytes_of(tmp_path)["manifest.parquet"] != before["manifest.parquet"]


def test_p3_bytes_depend_on_neither_place_nor_name_nor_time(tmp_path: Path) -> None:
    made = []
    for name in ("a", "b c"):
        (tmp_path / name).mkdir()
        scores = ours(tmp_path / name / f"{name}.parquet")
        prune(scores, out=tmp_path / name / f"out {name}.parquet", all_rows=True)
        made.append((tmp_path / name / f"out {name}.parquet").read_bytes())
    assert hashlib.sha256(made[0]).hexdigest() == hashlib.sha256(made[1]).hexdigest()


def test_p23_inputs_are_read_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    scores = ours(tmp_path / "in" / "scores.parquet")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "in").iterdir()}
    prune(scores, out=tmp_path / "m.parquet")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "in").iterdir()} == before


# --- scores that are none ---------------------------------------------------------------------------------------

BAD_VALUES = {"null": None, "NaN": np.nan, "inf": np.inf, "-inf": -np.inf}


def with_bad(path: Path, value: float | None, name: str = "mine") -> Path:
    numbers = [float(i) for i in range(10)]
    spoilt: list[float | None] = [*numbers[:3], value, *numbers[4:]]
    return foreign(path, **{name: pa.array(spoilt, pa.float64(), from_pandas=False)})


@pytest.mark.parametrize("value", BAD_VALUES.values(), ids=[f"T8-{name}" for name in BAD_VALUES])
@pytest.mark.parametrize("policy", ["hardest", "easiest", "random", "window", "ccs"])
def test_a_score_that_is_no_number_is_refused_ranked_hardest_or_dropped_as_asked(
    tmp_path: Path, value: float | None, policy: str
) -> None:
    scores, out = with_bad(tmp_path / "s.parquet", value), tmp_path / "manifest.parquet"
    for hard in ("high", "low"):
        named = {"by": ("mine",), "hard": hard, "policy": policy, "force": True}
        with pytest.raises(DataError, match="null, NaN or infinite in 1 rows") as raised:
            prune(scores, "5", **named)
        assert "rows 3" in raised.value.where
        assert "--nan" in raised.value.do
        report, _ = prune(scores, "5", nan="hardest", **named)
        assert len(kept(out)) == 5
        if policy == "hardest":
            assert 3 in kept(out)
            assert prune(scores, "1", nan="hardest", **named)[0]
            assert kept(out) == [3]
        if policy == "easiest":
            assert 3 not in kept(out)
        report, _ = prune(scores, "9", nan="drop", **named)
        assert kept(out) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
        assert report.summary["dropped"] == {"unscored": 1}


@pytest.mark.parametrize("policy", ["hardest", "ccs"])
def test_t8_strata_are_the_same_with_and_without_a_row_ranked_by_decree(tmp_path: Path, policy: str) -> None:
    """A null ranked hardest must not stretch the bins of the others to infinity."""
    scores = with_bad(tmp_path / "s.parquet", None)
    prune(
        scores,
        "9",
        by=("mine",),
        hard="high",
        policy=policy,
        nan="hardest",
        strata=2,
        all_rows=True,
        beta=None,
    )
    strata = ManifestTable.read(tmp_path / "manifest.parquet").data["stratum"].to_pylist()
    assert strata == ([None] * 10 if policy == "hardest" else [0, 0, 0, 1, 0, 1, 1, 1, 1, 1])


@pytest.mark.parametrize("name", ["first_learned", "last_wrong"])
def test_t8_null_has_its_meaning_where_the_format_gives_it_one_and_infinity_has_none(
    tmp_path: Path, name: str
) -> None:
    out = tmp_path / "manifest.parquet"
    prune(with_bad(tmp_path / "s.parquet", None, name), "1", by=(name,))
    assert kept(out) == ([3] if name == "first_learned" else [9])
    prune(tmp_path / "s.parquet", "1", by=(name,), policy="easiest", force=True)
    assert kept(out) == ([0] if name == "first_learned" else [3])
    prune(tmp_path / "s.parquet", "5", by=(name,), policy="ccs", force=True)
    for value in (np.inf, -np.inf):
        with pytest.raises(DataError, match="infinite"):
            prune(with_bad(tmp_path / "s.parquet", value, name), "1", by=(name,), force=True)


SECOND: dict[str, dict[str, Any]] = {
    "T8-ccs-cuts-by-aum": {"policy": "ccs", "by": ("forgetting",)},
    "T8-noisy-by-aum": {"drop_noisy": True, "noisy_below": -99.0, "by": ("forgetting",)},
    "T8-second-key": {"by": ("forgetting", "aum")},
}


@pytest.mark.parametrize("options", SECOND.values(), ids=SECOND)
def test_a_null_in_any_column_that_decides_is_seen(tmp_path: Path, options: dict[str, Any]) -> None:
    aum = columns()["aum"]
    aum[5] = np.nan
    scores = ours(tmp_path / "s.parquet", aum=aum)
    with pytest.raises(DataError, match="aum is null"):
        prune(scores, "10", **options)
    prune(scores, "39", nan="drop", **options)
    assert 5 not in kept(tmp_path / "manifest.parquet")
    prune(scores, "10", nan="hardest", force=True, **options)
    assert len(kept(tmp_path / "manifest.parquet")) == 10


def test_t8_a_column_that_decides_nothing_may_hold_anything(tmp_path: Path) -> None:
    scores = foreign(tmp_path / "s.parquet", mine=[1.0] * 10, aum=[None] * 10, junk=[["a"]] * 10)
    prune(scores, "5", by=("mine",), hard="high")
    assert len(kept(tmp_path / "manifest.parquet")) == 5


def test_t8_every_value_null_leaves_nothing_to_rank(tmp_path: Path) -> None:
    scores = foreign(tmp_path / "s.parquet", mine=pa.nulls(10))
    for nan, kind in (("refuse", "null, NaN"), ("drop", "no row that can be ranked")):
        with pytest.raises(DataError, match=kind):
            prune(scores, "5", by=("mine",), hard="high", nan=nan)
    _, progress = prune(scores, "5", by=("mine",), hard="high", nan="hardest")
    assert "W-ties" in [name for name, _ in progress.warnings]


@pytest.mark.parametrize("policy", ["hardest", "easiest", "random", "window", "ccs"])
def test_t8_all_equal_runs_and_says_so(tmp_path: Path, policy: str) -> None:
    scores = ours(tmp_path / "s.parquet", forgetting=np.ones(N, np.float32), aum=np.ones(N, np.float32))
    _, progress = prune(scores, "13", policy=policy)
    assert "W-ties" in [name for name, _ in progress.warnings]
    assert len(kept(tmp_path / "manifest.parquet")) == 13


SCORES: dict[str, Any] = {
    "T8-bool": [True, False] * 5,
    "T8-decimal": [Decimal(i) for i in range(10)],
    "T8-integers": list(range(10)),
    "T10-float16": np.arange(10, dtype=np.float16),
    "T10-dictionary": pa.array([float(i) for i in range(10)]).dictionary_encode(),
    "T10-negative-zero": [0.0, -0.0] * 5,
    "T10-subnormal": [i * 5e-324 for i in range(10)],
    "T10-largest": [float(np.finfo(np.float64).max)] * 5 + [0.0] * 5,
}


@pytest.mark.parametrize("values", SCORES.values(), ids=SCORES)
@pytest.mark.parametrize("policy", ["hardest", "ccs"])
def test_scores_of_any_plain_type_are_ranked(tmp_path: Path, values: Any, policy: str) -> None:
    scores = foreign(tmp_path / "s.parquet", mine=values)
    prune(scores, "5", by=("mine",), hard="high", policy=policy)
    assert len(kept(tmp_path / "manifest.parquet")) == 5


TABLES: dict[str, tuple[Mapping[str, Any], type[AuditError], int, str]] = {
    "G8-text": ({"mine": ["1.0"] * 10}, UsageError, 2, "Column mine is text"),
    "G8-category": ({"mine": pa.array(["1"] * 10).dictionary_encode()}, UsageError, 2, "is text"),
    "T10-list": ({"mine": [[1.0]] * 10}, DataError, 3, "Column mine is list"),
    "T10-timestamp": ({"mine": pa.array(range(10), pa.timestamp("us"))}, DataError, 3, "is timestamp"),
    "T6-absent": ({"mien": [1.0] * 10}, UsageError, 2, "No column 'mine'; nearest: mien"),
    "T7-duplicates": ({"index": [0, 0, *range(8)], "mine": [1.0] * 10}, DataError, 3, "duplicates"),
    "T7-negative": ({"index": range(-1, 9), "mine": [1.0] * 10}, DataError, 3, "negative"),
    "T7-null": ({"index": [None, *range(9)], "mine": [1.0] * 10}, DataError, 3, "1 nulls"),
    "T7-text": ({"index": list("abcdefghij"), "mine": [1.0] * 10}, DataError, 3, "not an integer"),
    "T9-text": ({"label": ["cat"] * 10, "mine": [1.0] * 10}, DataError, 3, "label is text"),
    "T9-negative": ({"label": [-2] * 10, "mine": [1.0] * 10}, DataError, 3, "label is -2 in row 0"),
}


@pytest.mark.parametrize(("data", "kind", "code", "says"), TABLES.values(), ids=TABLES)
def test_a_foreign_table_that_cannot_be_ranked_is_explained(
    tmp_path: Path, data: Mapping[str, Any], kind: type[AuditError], code: int, says: str
) -> None:
    scores = foreign(tmp_path / "s.parquet", **data)
    with pytest.raises(kind, match=says) as raised:
        prune(scores, "5", by=("mine",), hard="high")
    assert raised.value.exit_code == code
    assert not (tmp_path / "manifest.parquet").exists()


def test_t6_rows_known_by_uid_alone_make_no_manifest(tmp_path: Path) -> None:
    pq.write_table(pa.table({"uid": ["a" * 32], "mine": [1.0]}), tmp_path / "s.parquet")
    with pytest.raises(UsageError, match="has no index"):
        prune(tmp_path / "s.parquet", "1", by=("mine",), hard="high")


def test_t9_labels_far_apart_cost_no_memory(tmp_path: Path) -> None:
    scores = foreign(tmp_path / "s.parquet", mine=range(10), label=[0, 2**31 - 1] * 5)
    report, _ = prune(scores, "6", by=("mine",), hard="high", balance=True)
    assert report.summary["largest_share_change_points"] == 0
    assert len(kept(tmp_path / "manifest.parquet")) == 6


def test_t11_a_table_of_thousands_of_columns_is_pruned(tmp_path: Path) -> None:
    scores = foreign(tmp_path / "s.parquet", **{f"c{i}": [0.0] * 10 for i in range(3000)})
    prune(scores, "5", by=("c7",), hard="high")
    with pytest.raises(UsageError) as raised:
        prune(scores, "5", by=("nothing",), hard="high", force=True)
    assert len(raised.value.where) < 2000


def test_t17_a_manifest_is_no_score_table(tmp_path: Path) -> None:
    prune(ours(tmp_path / "scores.parquet"))
    with pytest.raises(MismatchError, match="is a manifest"):
        prune(tmp_path / "manifest.parquet", out=tmp_path / "again.parquet")


def test_t17_a_table_without_sidecar_is_warned_of_and_refused_when_strict(tmp_path: Path) -> None:
    scores = ours(tmp_path / "scores.parquet")
    sidecar.sidecar_path(scores).unlink()
    _, progress = prune(scores)
    assert "W-foreign" in [name for name, _ in progress.warnings]
    with pytest.raises(DataError, match="--strict"):
        prune(scores, strict=True, force=True)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9, 0.99], ids="T3-{}".format)
def test_a_flipped_bit_in_the_scores_is_found_and_the_old_manifest_stays(
    tmp_path: Path, place: float
) -> None:
    scores = ours(tmp_path / "scores.parquet")
    prune(scores)
    before = (tmp_path / "manifest.parquet").read_bytes()
    data = bytearray(scores.read_bytes())
    data[int(len(data) * place)] ^= 8
    scores.write_bytes(data)
    with pytest.raises(DataError):
        prune(scores, force=True)
    assert (tmp_path / "manifest.parquet").read_bytes() == before


# --- arguments --------------------------------------------------------------------------------------------------

KEEPS = [
    "0",
    "-0.1",
    "nan",
    "inf",
    "abc",
    "",
    "1e400",
    "0x10",
    "1 000",
    "1_0",
    " 0.5 ",
    "٠.٥",
    "1.5",
    "0.0",
    "0%",
]


@pytest.mark.parametrize("text", KEEPS, ids=[f"G1-{text!r}" for text in KEEPS])
def test_a_keep_that_is_none_of_the_forms_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        Keep.parse(text)
    assert raised.value.exit_code == 2


COUNTS = {"G2-one": ("1", 1), "G2-all": ("1.0", N), "G3-percent": ("70%", 28), "G3-count": ("40", N)}


@pytest.mark.parametrize(("text", "count"), COUNTS.values(), ids=COUNTS)
def test_a_whole_number_is_a_count_and_a_fraction_a_share(tmp_path: Path, text: str, count: int) -> None:
    report, _ = prune(ours(tmp_path / "s.parquet"), text, allow_empty_class=True)
    assert report.summary["keep_count"] == count == len(kept(tmp_path / "manifest.parquet"))


def test_g3_more_than_there_are_is_refused_with_their_number(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="40"):
        prune(ours(tmp_path / "s.parquet"), "41")


def test_g4_a_keep_that_empties_a_class_names_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"would empty 1 class: (cat|dog)") as raised:
        prune(ours(tmp_path / "s.parquet"), "1")
    assert "--allow-empty-class" in raised.value.do


CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "G8-beta-and-keep": ({"policy": "ccs", "beta": 0.6, "keep": "0.5"}, "4 too many"),
    "G8-window": ({"policy": "window", "skip": 0.7, "keep": "0.5"}, "8 too many"),
    "G8-no-embeddings": ({"policy": "moderate"}, "needs embeddings"),
    "G8-beta-elsewhere": ({"policy": "hardest", "beta": 0.1}, "--beta belongs"),
    "G8-skip-nan": ({"policy": "window", "skip": float("nan")}, "--skip nan"),
    "G8-beta-nan": ({"policy": "ccs", "beta": float("nan")}, "--beta nan"),
    "G8-seed": ({"seed": -1}, "--seed -1"),
    "G8-strata": ({"strata": 0}, "--strata 0"),
    "G8-policy": ({"policy": "hardst"}, "did you mean hardest"),
    "G8-noisy-nan": ({"drop_noisy": True, "noisy_below": float("nan")}, "--noisy-below"),
}


@pytest.mark.parametrize(("options", "says"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_contradiction_is_refused_with_its_numbers(
    tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        prune(ours(tmp_path / "s.parquet"), **options)
