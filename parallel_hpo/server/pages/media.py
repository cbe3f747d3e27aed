"""What of a run's summary is a picture, a table or a histogram, as wandb's client writes it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

IMAGE_TYPES: Final[Mapping[str, str]] = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
}
"""What may be shown as a picture. SVG is none: it may have scripts."""


def media_in(summary: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return images and tables, each with the file that has it, and histograms, by their keys."""
    found: dict[str, list[dict[str, Any]]] = {"images": [], "tables": [], "histograms": []}
    for key, value in _typed(summary):
        match value["_type"]:
            case "image-file":
                found["images"].append(
                    {"key": key, "file": value.get("path"), "caption": value.get("caption")}
                )
            case "images/separated":
                found["images"] += _separated(key, value)
            case "table-file" | "incremental-table-file":
                found["tables"].append({"key": key, "file": value.get("path")})
            case "histogram":
                found["histograms"].append({"key": key, "values": value.get("values"), "bins": _bins(value)})
    return {kind: [each for each in all_of if _is_whole(each)] for kind, all_of in found.items()}


def _typed(values: Mapping[str, Any], outer: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, value in values.items():
        if isinstance(value, dict):
            if isinstance(value.get("_type"), str):
                yield outer + name, value
            else:
                yield from _typed(value, f"{outer}{name}.")


def _separated(key: str, value: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    captions = value.get("captions")
    for number, file in enumerate(value.get("filenames") or []):
        caption = captions[number] if isinstance(captions, list) and number < len(captions) else None
        yield {"key": key, "file": file, "caption": caption}


def _bins(value: Mapping[str, Any]) -> list[float] | None:
    packed = value.get("packedBins")
    if isinstance(packed, dict):
        low, size, count = (packed.get(name) for name in ("min", "size", "count"))
        if all(isinstance(each, int | float) for each in (low, size, count)):
            return [low + size * place for place in range(int(count) + 1)]  # type: ignore[operator,arg-type]
    bins = value.get("bins")
    return bins if isinstance(bins, list) else None


def _is_whole(each: Mapping[str, Any]) -> bool:
    if "file" in each:
        return isinstance(each["file"], str)
    return isinstance(each["values"], list) and isinstance(each["bins"], list)
