"""Identity of images and of data sets."""

from __future__ import annotations

from hashlib import sha256

import numpy as np

from dataset_audit.images.identity import array_bytes, fingerprint, uid, uid_array

LABELS = np.array([0, 1, -1], np.int32)
UIDS = [uid(b"a"), uid(b"b"), None]


def test_uid_is_the_first_128_bits_of_sha256() -> None:
    assert uid(b"abc") == sha256(b"abc").hexdigest()[:32] == "ba7816bf8f01cfea414140de5dae2223"


def test_uid_of_an_array_depends_on_its_shape() -> None:
    flat = np.arange(12, dtype=np.uint8)
    assert uid_array(flat.reshape(2, 6, 1)) != uid_array(flat.reshape(6, 2, 1))
    assert uid_array(flat.reshape(2, 2, 3)) == uid(array_bytes(flat.reshape(2, 2, 3)))


def test_uid_of_an_array_does_not_depend_on_its_memory_order() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(2, 6, 1)
    assert uid_array(np.asfortranarray(picture)) == uid_array(picture)


def test_fingerprint_changes_with_order_label_class_name_and_content() -> None:
    first = fingerprint(UIDS, LABELS, ["x", "y"])
    assert len(first) == 64
    others = [
        fingerprint([UIDS[1], UIDS[0], None], LABELS, ["x", "y"]),
        fingerprint(UIDS, np.array([0, 0, -1], np.int32), ["x", "y"]),
        fingerprint(UIDS, LABELS, ["x", "z"]),
        fingerprint([UIDS[0], UIDS[0], None], LABELS, ["x", "y"]),
        fingerprint(UIDS[:2], LABELS[:2], ["x", "y"]),
        fingerprint([UIDS[0], UIDS[1], uid(b"c")], LABELS, ["x", "y"]),
    ]
    assert len({first, *others}) == 7
    assert fingerprint(UIDS, LABELS.tolist(), ("x", "y")) == first


def test_fingerprint_is_stable_between_versions() -> None:
    assert fingerprint(UIDS, LABELS, ["x", "y"])[:16] == "00a836f9ba4acfa3"


def test_long_data_sets_are_hashed_piecewise_to_the_same() -> None:
    many = [uid(str(number).encode()) for number in range(70_000)]
    labels = np.arange(70_000, dtype=np.int32) % 10
    rows = "".join(f"{key} {label}\n" for key, label in zip(many, labels, strict=True))
    assert fingerprint(many, labels, []) == sha256(b"[70000, []]" + rows.encode()).hexdigest()
