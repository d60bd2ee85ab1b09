"""Files appear whole or not at all: killed at any operation, out of space, behind links, beside a second writer."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from dataset_audit.errors import DataError, EnvironmentProblem, UsageError
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


ERRORS = {
    f"P7-{name}-{code}": (name, getattr(errno, code))
    for name, code in [
        ("write", "ENOSPC"), ("write", "EDQUOT"), ("write", "EFBIG"), ("write", "EIO"), ("write", "EROFS"),
        ("fsync", "EIO"), ("fsync", "ENOSPC"), ("rename", "EIO"), ("rename", "EACCES"), ("rename", "ESTALE"),
        ("chmod", "EPERM"), ("open", "EMFILE"),
    ]
}  # fmt: skip


@pytest.mark.parametrize("place", [1, 2], ids=["table", "sidecar"])
@pytest.mark.parametrize(("call", "code"), ERRORS.values(), ids=ERRORS)
def test_whatever_fails_no_temporary_file_stays_and_no_file_is_torn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, place: int
) -> None:
    table, beside = tmp_path / "t.parquet", tmp_path / "t.audit.json"
    publish(table, b"old")
    old = beside.read_bytes()
    seen = 0

    def failing(real: Callable[..., object]) -> Callable[..., object]:
        def instead(*arguments: object, **named: object) -> object:
            nonlocal seen
            seen += 1
            if seen == place:
                raise OSError(code, os.strerror(code))
            return real(*arguments, **named)

        return instead

    where = {
        "write": (files, "_write_all"), "fsync": (os, "fsync"), "rename": (Path, "replace"), "chmod": (Path, "chmod"),
        "open": (os, "open"),
    }[call]  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(*where, failing(getattr(*where)))
        with pytest.raises(EnvironmentProblem, match="could not be written") as raised:
            files.publish(table, lambda t: files._write_all(t, b"new"), {"format": "x"}, beside=beside)
    assert os.strerror(code) in str(raised.value)
    assert "t." in raised.value.where
    assert raised.value.exit_code == 4
    assert temps(tmp_path) == []
    assert beside.read_bytes() == old
    assert table.read_bytes() == (b"new" if (call, place) == ("rename", 2) else b"old")
    publish(table, b"new")
    assert json.loads(beside.read_bytes())["sha256"] == files.sha256_file(table)


def test_a_folder_that_cannot_be_synced_is_tolerated_only_where_the_system_has_no_such_thing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P11: EINVAL of some network file systems."""
    real = os.fsync

    def refusing(code: int) -> Callable[[int], None]:
        def sync(handle: int) -> None:
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                raise OSError(code, os.strerror(code))
            real(handle)

        return sync

    monkeypatch.setattr(os, "fsync", refusing(errno.EINVAL))
    publish(tmp_path / "t.parquet", b"x")
    monkeypatch.setattr(os, "fsync", refusing(errno.EIO))
    with pytest.raises(EnvironmentProblem):
        publish(tmp_path / "t.parquet", b"y")


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077], ids="P9-umask-{:03o}".format)
def test_new_files_have_the_mode_of_the_umask_and_temporary_ones_are_private(
    tmp_path: Path, mask: int
) -> None:
    table = tmp_path / "t.parquet"
    seen = []

    def write(temp: Path) -> None:
        seen.append(stat.S_IMODE(temp.stat().st_mode))
        temp.write_bytes(b"x")

    before = os.umask(mask)
    try:
        files.publish(table, write, {}, beside=sidecar.sidecar_path(table))
    finally:
        os.umask(before)
    assert seen == [0o600]
    for path in (table, sidecar.sidecar_path(table)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_p9_a_link_into_another_folder_is_kept_and_tidied_up_there(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "near").mkdir()
    link, target = tmp_path / "near" / "t.parquet", tmp_path / "far" / "t.parquet"
    link.symlink_to(target)  # leads nowhere yet
    files.check_writable(link)
    publish(link, b"x")
    assert link.is_symlink()
    assert target.read_bytes() == b"x"
    beside = sidecar.sidecar_path(link)
    beside.rename(beside.with_name(".t.audit.json.0123456789ab.tmp"))
    (tmp_path / "far" / ".t.parquet.0123456789ab.tmp").touch()
    files.sweep(link, beside)
    assert json.loads(beside.read_bytes())["sha256"] == files.sha256_file(target)
    assert temps(tmp_path / "far") == temps(tmp_path / "near") == []


def test_p9_another_users_link_in_a_shared_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o1777)
    (tmp_path / "real.parquet").write_bytes(b"old")
    (tmp_path / "link.parquet").symlink_to("real.parquet")
    me = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: me + 1)
    with pytest.raises(EnvironmentProblem, match="link of another user"):
        files.write_bytes(tmp_path / "link.parquet", b"new")
    assert (tmp_path / "real.parquet").read_bytes() == b"old"


def test_p9_a_hard_linked_target_is_replaced_and_its_twin_stays(tmp_path: Path) -> None:
    publish(tmp_path / "t.parquet", b"old")
    os.link(tmp_path / "t.parquet", tmp_path / "twin")
    publish(tmp_path / "t.parquet", b"new")
    assert (tmp_path / "twin").read_bytes() == b"old"


PLACES: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "P8-link-into-missing-folder": (lambda p: p.symlink_to("absent/t.parquet"), UsageError, "does not exist"),
    "P8-links-in-a-circle": (lambda p: p.symlink_to(p.name), EnvironmentProblem, "circle"),
    "P8-pipe": (os.mkfifo, UsageError, "no file"),
    "P8-link-to-folder": (lambda p: p.symlink_to("."), UsageError, "is a folder"),
}


@pytest.mark.parametrize(("make", "kind", "says"), PLACES.values(), ids=PLACES)
def test_an_output_that_leads_nowhere_is_found_before_any_work(
    tmp_path: Path, make: Callable[[Path], object], kind: type[Exception], says: str
) -> None:
    make(tmp_path / "t.parquet")
    with pytest.raises(kind, match=says):
        files.check_writable(tmp_path / "t.parquet")
    assert temps(tmp_path) == []


@pytest.mark.parametrize("length", [255 - 8, 300], ids=["P8-no-room-for-temp", "P8-name-too-long"])
def test_a_name_too_long_is_found_before_any_work(tmp_path: Path, length: int) -> None:
    with pytest.raises(EnvironmentProblem, match="File name too long"):
        files.check_writable(tmp_path / ("x" * (length - 8) + ".parquet"))


def test_p8_a_probe_that_another_process_swept_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.close

    def swept(handle: int) -> None:
        real(handle)
        files.sweep(tmp_path / "t.parquet", tmp_path / "t.audit.json")

    monkeypatch.setattr(os, "close", swept)
    files.check_writable(tmp_path / "t.parquet")


def test_p6_two_links_to_one_file_are_one_output(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.parquet").symlink_to("real.parquet")
    with (
        files.locked(tmp_path / "a.parquet"),
        pytest.raises(EnvironmentProblem, match="in use by pid") as raised,
        files.locked(tmp_path / "b.parquet"),
    ):
        pass
    assert raised.value.exit_code == 4


def test_p6_a_link_planted_as_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"keep")
    (tmp_path / ".t.parquet.lock").symlink_to("precious")
    with pytest.raises(EnvironmentProblem), files.locked(tmp_path / "t.parquet"):
        pass
    assert (tmp_path / "precious").read_bytes() == b"keep"


ROLLS = {
    "P2-complete": (lambda sha: json.dumps({"sha256": sha}).encode(), True),
    "P2-other-hash": (lambda sha: json.dumps({"sha256": "0" * 64}).encode(), False),
    "P2-half": (lambda sha: json.dumps({"sha256": sha}).encode()[:-5], False),
    "P2-empty": (lambda sha: b"", False),
    "P2-deep": (lambda sha: b"[" * 200_000, False),
    "P2-list": (lambda sha: b"[]", False),
}


@pytest.mark.parametrize(("content", "forward"), ROLLS.values(), ids=ROLLS)
def test_a_sidecars_temporary_file_is_rolled_forward_only_if_it_states_the_tables_hash(
    tmp_path: Path, content: Callable[[str], bytes], forward: bool
) -> None:
    table, beside = tmp_path / "t.parquet", tmp_path / "t.audit.json"
    publish(table, b"x")
    old = beside.read_bytes()
    left = content(files.sha256_file(table))
    (tmp_path / ".t.audit.json.0123456789ab.tmp").write_bytes(left)
    files.sweep(table, beside)
    assert beside.read_bytes() == (left if forward else old)
    assert temps(tmp_path) == []


def test_names_with_wildcards_are_swept_as_they_are(tmp_path: Path) -> None:
    table = tmp_path / "a[1]*?.parquet"
    (tmp_path / f".{table.name}.0123456789ab.tmp").touch()
    (tmp_path / ".a1xx.parquet.0123456789ab.tmp").touch()
    files.sweep(table, sidecar.sidecar_path(table))
    assert temps(tmp_path) == [".a1xx.parquet.0123456789ab.tmp"]


def test_t22_a_file_replaced_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(b"one")
    with files.steady(path):
        pass
    (tmp_path / "new").write_bytes(b"two")
    with pytest.raises(DataError, match="changed while it was read"), files.steady(path):
        (tmp_path / "new").replace(path)
