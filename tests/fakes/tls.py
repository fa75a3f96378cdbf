"""Certificates that prove nothing, made with the openssl program."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

CONFIG = """
[ca]
default_ca = own
[own]
database = {folder}/database
serial = {folder}/serial
new_certs_dir = {folder}
default_md = sha256
policy = any
x509_extensions = names
[any]
commonName = supplied
[names]
subjectAltName = {names}
"""


def certificate(
    folder: Path, *, name: str = "localhost", expired: bool = False
) -> tuple[Path, Path]:
    """Make a self-signed certificate; return the files of certificate and key."""
    if shutil.which("openssl") is None:
        pytest.skip("NOT PROVEN: TLS failures, as there is no openssl program to make certificates")
    files = folder / "cert.pem", folder / "key.pem"
    names = f"DNS:{name}" + (",IP:127.0.0.1" if name == "localhost" else "")
    (folder / "config").write_text(CONFIG.format(folder=folder, names=names))
    (folder / "database").touch()
    (folder / "serial").write_text("01")
    dates = ("20000101000000Z", "20000102000000Z" if expired else "29990101000000Z")
    _openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-keyout", files[1], "-out", folder / "request", "-subj", f"/CN={name}")  # fmt: skip
    _openssl("ca", "-selfsign", "-batch", "-notext", "-config", folder / "config",
             "-keyfile", files[1], "-in", folder / "request", "-out", files[0],
             "-startdate", dates[0], "-enddate", dates[1])  # fmt: skip
    return files


def _openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


def context(files: tuple[Path, Path]) -> ssl.SSLContext:
    """Return the server's side of it."""
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.load_cert_chain(*files)
    return made
