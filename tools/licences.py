"""Lists the licences of all that polytope-atlas installs: name, version, licence, by whose wish it comes.

    python -m tools.licences [EXTRA …]

What is listed are the packages of this environment that the project needs, directly or not, with the extras that are
named. A package's licence is what its metadata says: the SPDX expression, else the classifiers, else the field.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "polytope-atlas"
LONGEST = 60
"""Characters of a licence that is given as a text; the first line of it names the licence."""


@dataclass(frozen=True)
class Dependency:
    """A package: ``needed_by`` is the first other that asked for it."""

    name: str
    version: str
    licence: str
    needed_by: str


def dependencies(extras: Iterable[str] = ()) -> list[Dependency]:
    """All packages that the project needs here, in order of name.

    Args:
        extras: of the project, whose packages are listed too.

    Raises:
        PackageNotFoundError: one of the packages is not installed.
    """
    known: dict[str, Dependency] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(PROJECT, extra, PROJECT) for extra in ("", *extras)]
    while waiting:
        name, extra, needed_by = waiting.pop(0)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        package = distribution(name)
        if name != PROJECT:
            known.setdefault(name, Dependency(name, package.version, licence(package), needed_by))
        waiting += [(*wanted, name) for wanted in _required(package, extra)]
    return sorted(known.values(), key=lambda dependency: dependency.name)


def _required(package: Distribution, extra: str) -> list[tuple[str, str]]:
    """Names, and extras of them, that a package asks for in this environment, with one of its own extras."""
    requirements = [Requirement(line) for line in package.requires or []]
    return [
        (canonicalize_name(requirement.name), wanted)
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        for wanted in ("", *requirement.extras)
    ]


def licence(package: Distribution) -> str:
    """What a package's metadata says of its licence; empty where it says nothing."""
    metadata = package.metadata
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    prefix = "License :: "
    classifiers = [
        line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier", []) if line.startswith(prefix)
    ]
    named = [name for name in classifiers if name not in ("OSI Approved", "Other/Proprietary License")]
    text = (metadata.get_all("License") or [""])[0].strip().partition("\n")[0][:LONGEST]
    return " AND ".join(named) or text or " AND ".join(classifiers)


def main(extras: list[str]) -> None:
    """Print a line a package."""
    for row in dependencies(extras):
        print(f"{row.name}\t{row.version}\t{row.licence or 'not stated'}\t{row.needed_by}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except PackageNotFoundError as error:
        sys.exit(f"{error.name} is not installed: give the extras that are")
