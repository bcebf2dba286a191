"""Makes the wheel that `pip install` wants, from the files of this folder alone (PEP 517 and 660).

Common backends want a network for themselves, or leave build/ and *.egg-info beside the sources, which fails where
`dsm install` has put them for all users. The package is plain Python files, so a wheel is a zip of them. It notes where
it comes from, so that the installed package finds the library that was built, or installed, there.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import os
import re
import tarfile
import zipfile
from typing import Any, Optional

_HERE = os.path.dirname(os.path.abspath(__file__))
_DATE = (1980, 1, 1, 0, 0, 0)

# pip imports this file from the sources, which stay as they are.
with contextlib.suppress(OSError, NameError, TypeError):
    os.unlink(__cached__)
    os.rmdir(os.path.dirname(__cached__))


def _project(key: str) -> str:
    with open(os.path.join(_HERE, "pyproject.toml"), encoding="utf-8") as file:
        match = re.search(rf'^{key} = "([^"]*)"$', file.read(), re.MULTILINE)
    if match is None:
        raise ValueError(f"pyproject.toml has no {key}")
    return match[1]


_NAME, _VERSION = _project("name"), _project("version")
_INFO = f"{_NAME}-{_VERSION}.dist-info"


def _metadata() -> str:
    return (
        "Metadata-Version: 2.1\n"
        f"Name: {_NAME}\n"
        f"Version: {_VERSION}\n"
        f"Summary: {_project('description')}\n"
        "License: MIT\n"
        f"Requires-Python: {_project('requires-python')}\n"
        "Provides-Extra: numpy\n"
        'Requires-Dist: numpy>=1.22; extra == "numpy"\n'
    )


def _package() -> dict[str, bytes]:
    files = {}
    folder = os.path.join(_HERE, _NAME)
    for name in sorted(os.listdir(folder)):
        if name.endswith(".py") or name == "py.typed":
            with open(os.path.join(folder, name), "rb") as file:
                files[f"{_NAME}/{name}"] = file.read()
    return files


def _write(directory: str, files: dict[str, bytes]) -> str:
    wheel = "Wheel-Version: 1.0\nGenerator: dsm\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = {**files, f"{_INFO}/METADATA": _metadata().encode(), f"{_INFO}/WHEEL": wheel.encode()}
    record = ""
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(content)}\n"
    files[f"{_INFO}/RECORD"] = f"{record}{_INFO}/RECORD,,\n".encode()
    path = f"{_NAME}-{_VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, path), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return path


def build_wheel(
    wheel_directory: str, config_settings: Optional[dict[str, Any]] = None, metadata_directory: Optional[str] = None
) -> str:
    return _write(wheel_directory, {**_package(), f"{_NAME}/installed-from.txt": os.fsencode(f"{_HERE}\n")})


def build_editable(
    wheel_directory: str, config_settings: Optional[dict[str, Any]] = None, metadata_directory: Optional[str] = None
) -> str:
    return _write(wheel_directory, {f"{_NAME}.pth": os.fsencode(f"{_HERE}\n")})


def build_sdist(sdist_directory: str, config_settings: Optional[dict[str, Any]] = None) -> str:
    root = f"{_NAME}-{_VERSION}"
    files = {**_package(), "PKG-INFO": _metadata().encode()}
    for name in ("pyproject.toml", os.path.basename(__file__)):
        with open(os.path.join(_HERE, name), "rb") as file:
            files[name] = file.read()
    with tarfile.open(os.path.join(sdist_directory, f"{root}.tar.gz"), "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{root}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return f"{root}.tar.gz"
