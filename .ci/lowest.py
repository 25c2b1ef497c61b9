"""Print the oldest versions that pyproject.toml allows of what it names, as constraints for pip."""

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


def lowest(extra: str) -> Iterator[str]:
    """``name==version`` of what the package needs itself, and of what an extra of it adds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for text in (*project["dependencies"], *project["optional-dependencies"][extra]):
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        if wanted.name == project["name"]:
            for inner in wanted.extras:
                yield from lowest(inner)
            continue
        floors = [one.version for one in wanted.specifier if one.operator in (">=", "==")]
        if not floors:
            sys.exit(f"pyproject.toml names no lowest version of {wanted.name}")
        yield f"{wanted.name}=={floors[0]}"


if __name__ == "__main__":
    found = dict.fromkeys(lowest("test"))
    sys.stdout.writelines(f"{line}\n" for line in sorted(found))
