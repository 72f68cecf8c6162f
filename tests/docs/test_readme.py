"""Every command the documents show works as shown, and every link leads somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def _commands(path: Path) -> list[str]:
    """Lines of the ``sh`` blocks; those of make are what runs this test."""
    lines = "\n".join(_blocks(path, "sh")).splitlines()
    return [line for line in lines if line.strip() and not line.startswith(("make ", "#"))]


def _environment(*folders: Path) -> dict[str, str]:
    """The environment with programs of some folders, and of this Python's, before others."""
    return {
        **os.environ,
        "PATH": os.pathsep.join(map(str, (*folders, Path(sys.executable).parent, os.environ["PATH"]))),
    }


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if _commands(path)], ids=lambda path: path.name)
def test_commands_of_the_documents_run_as_they_stand(path: Path, tmp_path: Path, warm_commands: Path) -> None:
    commands = _commands(path)
    assert commands
    environment = _environment(*([] if os.environ.get("VIDGEN_SLOW") == "1" else [warm_commands]))
    for line in commands:
        done = subprocess.run(line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    for block in _blocks(path, "python"):
        done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"{block}\n{done.stderr}"


def test_the_readme_shows_every_command() -> None:
    """The installed program is asked, whose other commands above are those of a stand-in that is quicker."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    done = subprocess.run(["vidgen", "--help"], env=_environment(), capture_output=True, text=True, check=True)
    names = re.findall(r"^  ([a-z]+)  ", done.stdout.split("Commands:")[1], re.MULTILINE)
    assert len(names) >= 9
    for name in names:
        assert f"`vidgen {name}" in text


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_make_demo_and_make_test_stand_at_the_top() -> None:
    top = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:15]
    assert any(line.startswith("make demo") for line in top) and any(line.startswith("make test") for line in top)
