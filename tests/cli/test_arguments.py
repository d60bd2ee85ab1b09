from __future__ import annotations

import os
from pathlib import Path

import pytest

GRAMMAR = "a count (35000), a share with a point"
BAD_KEEP = [
    "0",
    "-0.1",
    "NaN",
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
    "101%",
]


@pytest.mark.parametrize("text", BAD_KEEP)
def test_keep_refuses_what_is_no_share_or_count_g1(text: str, audit, scores) -> None:
    done = audit("prune", "--keep", text)
    assert (done.code, done.out) == (2, "")
    assert GRAMMAR in done.err


@pytest.mark.parametrize(
    ("text", "kept"),
    [("1.0", "60 of 60 (1.0)"), ("50%", "30 of 60"), (".5", "30 of 60"), ("7", "7 of 60 (7)")],
)
def test_a_point_makes_a_share_and_its_absence_a_count_g2_g3(text: str, kept: str, audit, scores) -> None:
    done = audit("prune", "--keep", text)
    assert done.code == 0, done.err
    assert kept in done.out


def test_one_is_one_example_and_would_empty_two_classes_g2_g4(audit, scores) -> None:
    refused = audit("prune", "--keep", "1")
    assert refused.code == 2
    assert "keep 1 of 60 would empty 2 classes" in refused.err
    assert "--allow-empty-class" in refused.err
    assert "1 of 60 (1)" in audit("prune", "--keep", "1", "--allow-empty-class").out


def test_a_count_beyond_the_table_is_refused_with_its_size_g3(audit, scores) -> None:
    done = audit("prune", "--keep", "61")
    assert done.code == 2
    assert "60" in done.err


@pytest.mark.parametrize(
    "options",
    [
        ("--seed", "-1"), ("--seed", str(2**64)), ("--seed", "1.5"), ("--seeds", "0"), ("--epochs", "0"),
        ("--batch-size", "0"), ("--batch-size", "-1"), ("--batch-size", str(10**9)), ("--workers", "-1"),
        ("--workers", str(10**6)), ("--lr", "nan"), ("--lr", "0"), ("--lr", "-1"), ("--max-pixels", "0"),
        ("--max-skipped", "101%"), ("--label-noise", "1.0"), ("--checkpoint-every", "0"), ("--tdds", "1,2"),
        ("--image-size", "1"), ("--memory", "0"), ("--el2n-epochs", "0"), ("--background", "puce"),
        ("--recipe", "fats"), ("--set", "momentun=0.9"), ("--set", "lr"), ("--precision", "fp16"),
        ("--model", "hf-hub:timm/x"), ("--model", "local-dir:/x"), ("--model", "../x"), ("--out", "-"),
        ("--out", "missing/scores.parquet"), ("--resident", "maybe"),
    ],
)  # fmt: skip
def test_forgetting_refuses_at_once_and_says_what_g5_g6_g10(
    options: tuple[str, ...], audit, tmp_path: Path
) -> None:
    done = audit("forgetting", "digits", *options)
    assert (done.code, done.out) == (2, ""), done.err
    assert done.err.startswith("error[E-")
    assert "Traceback" not in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("prune", "--by", "amu"), "aum"),
        (("prune", "--by", "class_name"), "class_name"),
        (("prune", "--policy", "hardset"), "did you mean hardest?"),
        (("prune", "--polcy", "ccs"), "did you mean --policy?"),
        (("pruen",), "did you mean 'prune'?"),
        (("prune", "--policy", "moderate"), "embeddings"),
        (("prune", "--policy", "ccs", "--keep", "0.9", "--beta", "0.5"), "too many"),
        (("prune", "--policy", "window", "--skip", "0.5", "--keep", "0.9"), "too many"),
        (("prune", "--skip", "0.5"), "--policy window"),
        (("prune", "--hard", "hihg"), "did you mean high?"),
        (("prune", "a.parquet"), "a.parquet"),
        (("prune", "a.parquet", "b.parquet"), "b.parquet"),
        (("prune", "--keep"), "--keep"),
        (("prune", "--config", "none.toml"), "none.toml"),
        (("prune", "--out", "-"), "written to a file"),
        (("prune", "--out", "missing/m.parquet"), "missing"),
        (("prune", "--list", "policy"), "did you mean policies?"),
        (("--format", "yaml", "prune"), "json"),
        (("forgetting",), "SPEC is missing"),
        (("forgetting", "cifra10"), "cifar10"),
        (("forgetting", "cifar10"), "--download"),
        (("forgetting", "no/such/folder"), "no/such/folder"),
        (("forgetting", "no/such/*.parquet"), "no/such/*.parquet"),
        (("forgetting", "s3://bucket/x.parquet"), "s3://bucket/x.parquet"),
        ((), "forgetting, prune"),
    ],
)  # fmt: skip
def test_a_wrong_word_is_named_with_what_would_be_right_g7_g8(
    arguments: tuple[str, ...], said: str, audit, scores
) -> None:
    done = audit(*arguments)
    assert (done.code, done.out) == (2, ""), done.err
    assert said in done.err
    assert len(done.err.splitlines()) <= 4
    assert "nvalid" not in done.err


def test_out_may_not_be_the_input_by_any_name_g6(audit, scores, tmp_path: Path) -> None:
    os.link(scores, tmp_path / "hard.parquet")
    (tmp_path / "soft.parquet").symlink_to(scores)
    before = scores.read_bytes()
    for name in ("scores.parquet", "./scores.parquet", "hard.parquet", "soft.parquet"):
        done = audit("prune", "--out", name, "--force")
        assert done.code == 2, name
    assert scores.read_bytes() == before


def test_out_may_be_no_folder_and_no_foreign_file_g6(audit, scores, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.parquet").write_text("mine")
    assert audit("prune", "--out", "folder").code == 2
    assert audit("prune", "--out", "notes.parquet", "--force").code == 2
    assert (tmp_path / "notes.parquet").read_text() == "mine"


def test_out_to_a_full_device_is_the_machines_fault_and_the_null_device_is_fine_g6(
    audit, scores, tmp_path: Path
) -> None:
    assert audit("prune", "--out", "/dev/full").code == 4
    assert audit("prune", "--out", "/dev/null").code == 0
    assert [path for path in tmp_path.iterdir() if path.suffix == ".json"] == [tmp_path / "scores.audit.json"]


def test_a_device_that_is_not_there_is_the_machines_fault_g11(audit) -> None:
    done = audit("forgetting", "digits", "--device", "cuda:99", CUDA_VISIBLE_DEVICES="")
    assert done.code == 4
    assert "cpu" in done.err


@pytest.mark.parametrize("text", ["[prune]\nkep = 0.5", "[prune]\nkeep = true", "keep = 0.5"])
def test_a_configuration_with_a_mistake_is_refused_g12(text: str, audit, scores, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(text)
    assert audit("prune", "--config", "a.toml").code == 2


def test_a_configuration_is_obeyed_and_a_sidecar_repeats_its_run_g12(audit, scores, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[prune]\nkeep = 0.5\npolicy = 'random'\n")
    first = audit("prune", "--config", "a.toml")
    assert "30 of 60" in first.out
    table = (tmp_path / "manifest.parquet").read_bytes()
    assert "up to date" in audit("prune", "--config", "manifest.audit.json").out
    (tmp_path / "manifest.parquet").rename(tmp_path / "other.parquet")
    (tmp_path / "manifest.audit.json").rename(tmp_path / "other.audit.json")
    assert "30 of 60" in audit("prune", "--config", "other.audit.json").out
    assert (tmp_path / "manifest.parquet").read_bytes() == table


def test_a_variable_that_is_nearly_ours_is_named_and_others_are_left_alone_g12(audit, scores) -> None:
    done = audit("prune", AUDIT_DATAROOT="x", AUDIT_LOG_LEVEL="9")
    assert done.code == 0
    assert "warning[W-environment]: AUDIT_DATAROOT is not heeded; did you mean AUDIT_DATA_ROOT?" in done.err
    assert "AUDIT_LOG_LEVEL" not in done.err


def test_verbose_says_the_settings_in_full(audit, scores, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[prune]\nkeep = 0.5\n")
    assert (
        "audit prune --keep 0.5 --policy random"
        in audit("prune", "--policy", "random", "--config", "a.toml", "-v").err
    )
