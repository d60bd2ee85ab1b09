"""Files on disk: the only room that writes Parquet and sidecars."""
