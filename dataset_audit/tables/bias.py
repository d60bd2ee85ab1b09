"""``bias.parquet``: one row per image drawn from several sources; what each column means."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

_TEXTS: Final = pa.dictionary(pa.int32(), pa.string())

BIAS: Final[dict[str, tuple[pa.DataType, str]]] = {
    "source": (_TEXTS, "the set it comes from, by its short name"),
    "index": (pa.int64(), "row of that set"),
    "uid": (pa.string(), "identity of its bytes"),
    "file_name": (pa.string(), "relative to the set's root; null for arrays"),
    "label": (pa.int32(), "place of its class among the names of all sources; null without"),
    "class_name": (_TEXTS, "null without"),
    "split": (_TEXTS, "`test-1`, `test-2` ...: the fold it was tested in; `unused`"),
    "status": (_TEXTS, "`ok`, why it could not be read, or `excluded`: other sources have fewer"),
    "error": (pa.string(), "one line; null where the status is `ok`"),
    "cluster": (pa.int64(), "duplicates share the row number of the first of them"),
    "p_<source>": (
        pa.float32(),
        "probability of each source, out of fold, by the strongest probe; one column each",
    ),
    "predicted_source": (_TEXTS, "the likeliest"),
    "typicality": (pa.float32(), "log-odds of its own source; high gives it away, low is hard"),
}
