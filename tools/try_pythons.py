"""Installs the wheel in fresh environments, one a Python, and runs `tools/smoke.py` in each.

    python -m tools.try_pythons [--uv] python3.11 python3.12 …

Installs with pip alone, as a user would; with ``--uv`` by that, which is faster. What is newest is installed: no
versions are pinned.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SMOKE = Path(__file__).with_name("smoke.py")


def build_wheel(source: Path, folder: Path, *, isolated: bool = True) -> Path:
    """The wheel of a checkout, built into a folder; not ``isolated``: by this environment's setuptools."""
    options = [] if isolated else ["--no-build-isolation"]
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        *options,
        "--wheel-dir",
        folder,
        source,
    ]
    subprocess.run(command, check=True)
    [wheel] = folder.glob("*.whl")
    return wheel


def run_smoke(python: str | Path, folder: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the smoke test by another Python, in a folder; ``path``: where the packages are, if not installed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    command: list[str | Path] = [python, "-P", SMOKE, folder]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300)


def try_python(python: str, wheel: Path, folder: Path, *, uv: bool) -> str:
    """Install the wheel for one Python and run the smoke test; returns what it prints, or how it failed."""
    subprocess.run([python, "-m", "venv", folder / "venv"], check=True)
    installed = folder / "venv" / "bin" / "python"
    installer: list[str | Path] = (
        ["uv", "pip", "install", "--python", installed] if uv else [installed, "-m", "pip", "install"]
    )
    subprocess.run([*installer, "--quiet", wheel], check=True)
    work = folder / "work"
    work.mkdir()
    ran = run_smoke(installed, work)
    return ran.stdout.strip() if ran.returncode == 0 else f"failed: {ran.stderr.strip() or ran.stdout.strip()}"


def main() -> None:
    """Try every Python that is named, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pythons", nargs="+", help="interpreters, as python3.12")
    parser.add_argument("--uv", action="store_true", help="install with uv")
    given = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        wheel = build_wheel(ROOT, Path(temporary) / "wheel")
        for number, python in enumerate(given.pythons):
            said = try_python(python, wheel, Path(temporary) / str(number), uv=given.uv)
            failed = failed or said.startswith("failed")
            print(f"{python}: {said}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
