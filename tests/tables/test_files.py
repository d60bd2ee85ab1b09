"""Files appear whole or not at all: killed at any operation, out of space, behind links, beside a second writer."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dataset_audit.errors import EnvironmentProblem, UsageError
from dataset_audit.tables import files, sidecar

ROOT = Path(__file__).parents[2]


def child(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True, text=True, cwd=ROOT, timeout=60, check=False,
    )  # fmt: skip


def publish(table: Path, data: bytes) -> files.Written:
    return files.publish(
        table, lambda temp: _put(temp, data), {"format": "x"}, beside=sidecar.sidecar_path(table)
    )


def _put(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def temps(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".tmp")]


def test_table_and_sidecar_are_written_with_the_hash_of_the_table(tmp_path: Path) -> None:
    table = tmp_path / "t.parquet"
    written = publish(table, b"abc")
    assert table.read_bytes() == b"abc"
    assert written.size == 3
    assert json.loads((tmp_path / "t.audit.json").read_bytes()) == {"format": "x", "sha256": written.sha256}
    assert written.sha256 == files.sha256_file(table)
    assert temps(tmp_path) == []


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from dataset_audit.tables import files, sidecar
    folder, at = Path(sys.argv[1]), int(sys.argv[2])
    count = 0
    def hit():
        global count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
    def hook(event, arguments):
        if event in ("os.rename", "os.remove", "os.mkdir", "os.chmod") or (
            event == "open" and str(folder) in str(arguments[0])
        ):
            hit()
    sync = os.fsync
    os.fsync = lambda handle: (hit(), sync(handle))[1]
    sys.addaudithook(hook)
    table = folder / "t.parquet"
    beside = sidecar.sidecar_path(table)
    files.publish(table, lambda temp: temp.write_bytes(b"new" * 1000), {"format": "x"}, beside=beside)
    print("done", count)
"""


def test_killed_at_any_operation_the_pair_is_old_or_new_or_recognisably_between(tmp_path: Path) -> None:
    """The next run, after a sweep, finds the old pair or the new one."""
    seen = set()
    for at in range(1, 60):
        folder = tmp_path / str(at)
        folder.mkdir()
        table, beside = folder / "t.parquet", folder / "t.audit.json"
        publish(table, b"old")
        old = beside.read_bytes()
        result = child(KILLED, folder, at)
        content, note = table.read_bytes(), beside.read_bytes()
        assert content in (b"old", b"new" * 1000)
        matches = json.loads(note)["sha256"] == files.sha256_file(table)
        if content == b"old":
            assert note == old
        state = "new" if matches and content != b"old" else "old" if matches else "between"
        seen.add(state)
        files.sweep(table, beside)
        assert temps(folder) == []
        if state == "between":
            assert json.loads(beside.read_bytes())["sha256"] == files.sha256_file(table)
        if result.returncode == 0:
            break
    else:
        pytest.fail("the run never finished")
    assert at > 8
    assert seen == {"old", "between", "new"}


def test_a_file_size_limit_leaves_the_old_file_and_no_temporary_one(tmp_path: Path) -> None:
    table = tmp_path / "t.parquet"
    publish(table, b"old")
    code = """
        import resource, signal, sys
        from pathlib import Path
        from dataset_audit.errors import EnvironmentProblem
        from dataset_audit.tables import files, sidecar
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        table = Path(sys.argv[1])
        try:
            files.publish(table, lambda t: t.write_bytes(b"n" * 5000), {}, beside=sidecar.sidecar_path(table))
        except EnvironmentProblem as error:
            print(error)
            sys.exit(error.exit_code)
    """
    result = child(code, table)
    assert result.returncode == 4
    assert "File too large" in result.stdout
    assert str(table) in result.stdout
    assert table.read_bytes() == b"old"
    assert temps(tmp_path) == []


def test_a_failed_fsync_is_not_retried_and_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "t.parquet"
    publish(table, b"old")
    calls = []

    def broken(handle: int) -> None:
        calls.append(handle)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(EnvironmentProblem, match="Input/output error"):
        publish(table, b"new")
    assert len(calls) == 1
    assert table.read_bytes() == b"old"
    assert temps(tmp_path) == []


def test_modes_follow_the_umask_or_the_old_file(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        publish(tmp_path / "a.parquet", b"x")
        assert stat.S_IMODE((tmp_path / "a.parquet").stat().st_mode) == 0o640
        (tmp_path / "a.parquet").chmod(0o604)
        publish(tmp_path / "a.parquet", b"y")
        assert stat.S_IMODE((tmp_path / "a.parquet").stat().st_mode) == 0o604
    finally:
        os.umask(old)


def test_a_link_is_kept_and_its_target_replaced(tmp_path: Path) -> None:
    (tmp_path / "real.parquet").write_bytes(b"old")
    link = tmp_path / "link.parquet"
    link.symlink_to("real.parquet")
    files.publish(link, lambda temp: _put(temp, b"new"), None, beside=link)
    assert link.is_symlink()
    assert (tmp_path / "real.parquet").read_bytes() == b"new"


def test_dev_null_takes_a_table_and_gets_no_sidecar() -> None:
    files.publish(Path("/dev/null"), lambda temp: _put(temp, b"x"), {}, beside=Path("/dev/null.audit.json"))
    assert not Path("/dev/null.audit.json").exists()


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("-", UsageError, "standard output"),
        ("absent/t.parquet", UsageError, "does not exist"),
        ("t.csv", UsageError, "written as Parquet"),
        ("folder", UsageError, "is a folder"),
        ("/dev/full", EnvironmentProblem, "device"),
    ],
)
def test_an_output_that_cannot_be_is_found_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: type[Exception], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(kind, match=says):
        files.check_writable(Path(name))
    assert temps(tmp_path) == []


def test_too_little_space_is_found_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="MB free"):
        files.check_writable(tmp_path / "t.parquet", need_bytes=2**60)


def test_a_second_writer_is_told_who_is_first_and_a_killed_one_frees_the_file(tmp_path: Path) -> None:
    table = tmp_path / "t.parquet"
    code = """
        import sys, time
        from pathlib import Path
        from dataset_audit.tables import files
        with files.locked(Path(sys.argv[1])):
            print("held", flush=True)
            time.sleep(60)
    """
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(table)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(EnvironmentProblem, match=f"in use by pid {holder.pid}"), files.locked(table):
            pass
        with files.locked(tmp_path / "other.parquet"):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with files.locked(table):
        pass


def test_sweep_leaves_other_peoples_files_alone(tmp_path: Path) -> None:
    table, beside = tmp_path / "t.parquet", tmp_path / "t.audit.json"
    publish(table, b"x")
    for name in ("mine.tmp", ".other.parquet.0123456789ab.tmp", ".t.parquet.bak"):
        (tmp_path / name).write_bytes(b"keep")
    (tmp_path / ".t.parquet.0123456789ab.tmp").write_bytes(b"dead")
    files.sweep(table, beside)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".other.parquet.0123456789ab.tmp", ".t.parquet.bak", "mine.tmp", "t.audit.json", "t.parquet",
    ]  # fmt: skip
