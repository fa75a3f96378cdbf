"""Output files: the parts of the table with its vectors, rejects, and the manifest over them."""

from batchembed.parts.columns import (
    part_batch,
    part_schema,
)
from batchembed.parts.manifest import (
    EMBEDDINGS,
    EXTENT,
    FORMAT,
    KEY,
    MANIFEST,
    REJECTS,
    SIMILARITY,
    VECTOR,
    VOUCHER,
    FileNote,
    Manifest,
    check_format,
    is_part,
    part_name,
    read_manifest,
    read_voucher,
    vector_columns,
)
from batchembed.parts.published import (
    PublishedPart,
    file_sha256,
    known_rejects,
    whole_parts,
)
from batchembed.parts.vectors import (
    RunVectors,
)

__all__ = [
    "EMBEDDINGS",
    "EXTENT",
    "FORMAT",
    "KEY",
    "MANIFEST",
    "REJECTS",
    "SIMILARITY",
    "VECTOR",
    "VOUCHER",
    "FileNote",
    "Manifest",
    "PublishedPart",
    "RunVectors",
    "check_format",
    "file_sha256",
    "is_part",
    "known_rejects",
    "part_batch",
    "part_name",
    "part_schema",
    "read_manifest",
    "read_voucher",
    "vector_columns",
    "whole_parts",
]
