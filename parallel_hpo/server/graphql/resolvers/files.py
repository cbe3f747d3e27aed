"""Files of runs and of artifacts, with signed addresses; and the operations on runs' files."""

from __future__ import annotations

import base64
import mimetypes
from dataclasses import dataclass
from typing import Any, Final

from parallel_hpo.server.context import DEFAULT_ENTITY, DEFAULT_PROJECT
from parallel_hpo.server.files import storage as run_files
from parallel_hpo.server.files.storage import FilePermission, FileRef, RunFiles, sign_url
from parallel_hpo.server.graphql.resolvers.context import (
    Info,
    Page,
    Resolver,
    context,
    file_of_id,
    make_file_id,
    page,
    reading,
    renamed,
    timed,
)
from parallel_hpo.server.store import files
from parallel_hpo.server.store.artifacts import Artifact
from parallel_hpo.server.store.records import Run
from parallel_hpo.server.store.runs import RunPath


@dataclass(frozen=True, slots=True)
class FileNode:
    """A file as clients see it: stored at `file_ref`, or elsewhere at the URL `ref`."""

    id: str
    name: str
    size_bytes: int = 0
    md5: str | None = None
    updated_at: float | None = None
    file_ref: FileRef | None = None
    ref: str | None = None
    artifact: Artifact | None = None
    expected: bool = False
    """Whether the client must still upload it."""


def _of_run(
    run: Run,
    info: Info,
    names: list[str | None] | None = None,
    after: str | None = None,
    first: int | None = None,
    pattern: str | None = None,
) -> Page[FileNode]:
    # wandb client: it requests a file by the path under which it was saved.
    wanted = [name.removeprefix("./") for name in names or [] if name is not None]
    found = files.of_run(reading(info), run.id, wanted, pattern)
    return page([_node(file) for file in found], after, first)


def _node(file: files.File) -> FileNode:
    file_ref = FileRef(str(file.run_id), file.name)
    file_id = make_file_id(file.run_id, file.name)
    return FileNode(file_id, file.name, file.size, file.md5, file.updated_at, file_ref)


def _url(file: FileNode, info: Info, upload: bool | None = None) -> str | None:
    if upload and file.file_ref is not None:
        return _signed_url(file, info, FilePermission.SEND)
    return _direct_url(file, info)


def _direct_url(file: FileNode, info: Info) -> str | None:
    return file.ref if file.file_ref is None else _signed_url(file, info, FilePermission.FETCH)


def _upload_url(file: FileNode, info: Info) -> str | None:
    return _signed_url(file, info, FilePermission.SEND) if file.expected else None


def _signed_url(file: FileNode, info: Info, permission: FilePermission) -> str:
    request = context(info)
    assert file.file_ref is not None
    return sign_url(request.app, request.caller.base_url, permission, file.file_ref)


def _digest(file: FileNode, _info: Info) -> str | None:
    return None if file.md5 is None else base64.b64encode(bytes.fromhex(file.md5)).decode()


def _path_of(input: dict[str, Any]) -> RunPath:
    return RunPath(
        input.get("entityName") or DEFAULT_ENTITY,
        input.get("projectName") or DEFAULT_PROJECT,
        input.get("runName") or "",
    )


def _create(_source: Any, info: Info, input: dict[str, Any]) -> RunFiles:
    request = context(info)
    return run_files.create(request.app, request.caller.base_url, _path_of(input), input["files"])


def _mark_uploaded(_source: Any, _info: Info, input: dict[str, Any]) -> dict[str, bool]:
    """Return success: an upload is recorded when its bytes arrive."""
    return {"success": True}


def _delete(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, bool]:
    run_files.delete(context(info).app, [file_of_id(file_id) for file_id in input["files"]])
    return {"success": True}


FILE: Final[dict[str, Resolver]] = {
    "displayName": renamed("name"),
    "url": _url,
    "directUrl": _direct_url,
    "uploadUrl": _upload_url,
    "uploadHeaders": lambda _file, _info: [],
    "uploadMultipartUrls": lambda _file, _info: None,
    "storagePath": lambda file, _info: None if file.file_ref is None else file.file_ref.storage_path,
    "mimetype": lambda file, _info: mimetypes.guess_type(file.name)[0],
    "digest": _digest,
    "updatedAt": timed("updated_at"),
}
RUN: Final[dict[str, Resolver]] = {
    "files": _of_run,
    "fileCount": lambda run, info: files.count(reading(info), run.id),
}
MUTATION: Final[dict[str, Resolver]] = {
    "createRunFiles": _create,
    "markRunFilesUploaded": _mark_uploaded,
    "deleteFiles": _delete,
}
