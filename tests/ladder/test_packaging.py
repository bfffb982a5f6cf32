"""What is shipped: the list of packages, and a wheel that works where folders of the same names lie about."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import ragladder

ROOT = Path(ragladder.__file__).resolve().parent
SIDE = {"tests", "benchmarks", "configs", "docs", "examples", "build", "dist"}
needs_source = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="needs the source tree")


def modules() -> set[str]:
    """Python files of the packages on disk, relative to the root."""
    found = [*ROOT.glob("*.py"), *(p for p in ROOT.glob("*/**/*.py") if p.relative_to(ROOT).parts[0] not in SIDE)]
    inside = [path.relative_to(ROOT) for path in found]
    return {path.as_posix() for path in inside if not path.parts[0].startswith(".")}


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@needs_source
def test_the_list_of_packages_is_what_is_on_disk() -> None:
    folders = {Path(name).parent for name in modules() if Path(name).name == "__init__.py"}
    assert len(folders) > 10
    on_disk = {".".join(("ragladder", *folder.parts)) for folder in folders}
    assert on_disk == set(project()["tool"]["setuptools"]["packages"])


@needs_source
def test_every_module_is_in_a_package() -> None:
    homes = {str(Path(name).parent) for name in modules()}
    assert {home for home in homes if not (ROOT / home / "__init__.py").is_file()} == set()


@needs_source
def test_the_version_is_said_once_and_the_command_exists() -> None:
    from importlib import import_module

    assert project()["project"]["version"] == ragladder.__version__
    module, _, function = project()["project"]["scripts"]["ragladder"].partition(":")
    assert callable(getattr(import_module(module), function))


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a git checkout")
def test_a_wheel_has_everything_and_works_beside_folders_of_the_same_names(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--quiet",
        "-w",
        str(tmp_path),
    ]
    # A copy, so that building leaves nothing in the tree; what git ignores stays out of it.
    source = tmp_path / "source"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    tracked = {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}
    for name in tracked:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([*command, str(source)], check=True, cwd=tmp_path)
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"ragladder/{name}" for name in modules()} <= names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"ragladder"}
    aside = ("ragladder/tests/", "ragladder/benchmarks/", "ragladder/examples/", "ragladder/docs/")
    assert not [name for name in names if name.startswith(aside)]
    data = {name for name in tracked if name.startswith("configs/") or name == "py.typed"}
    data |= {name for name in tracked if name.startswith("ladder/report/") and name.endswith((".j2", ".css", ".js"))}
    assert len(data) > 80
    assert {f"ragladder/{name}" for name in data} <= names

    target, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True, cwd=tmp_path)
    for name in ("rag", "eval", "core", "ladder"):
        (elsewhere / name).mkdir(parents=True)
        (elsewhere / name / "__init__.py").write_text("raise ImportError('the user's own folder was imported')\n")
    environment = {**os.environ, "PYTHONPATH": str(target)}

    def ragladder_command(*arguments: str) -> str:
        code = "import ragladder.ladder.cli as cli; cli.main()"
        line = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(line, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = "import ragladder; print(ragladder.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where], cwd=elsewhere, env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith(str(target)), "the wheel, not the source tree, is to be tested"
    ragladder_command("init", "start")
    assert "can be climbed" in ragladder_command("check", "start/quickstart.yaml")
