"""What `export` writes."""

from __future__ import annotations

from enum import StrEnum


class ExportFormat(StrEnum):
    """What a sweep is exported as."""

    CSV = "csv"
    PARQUET = "parquet"
    JSON = "json"
    OPTUNA = "optuna"
