"""Check that the scripts of the pages pass ``mypy --strict``, as those of users should.

The code cells of a page become a module, but for those that its readers do not see; ``make check``
runs this.  Arguments name pages; without, all are checked.
"""

import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

DOCS = Path(__file__).parent
ROOT = DOCS.parent
CELL = re.compile(r"^```\{code-cell\}[^\n]*\n((?::[^\n]*\n)*)(.*?)^```", re.S | re.M)


def script(page: Path) -> str:
    """The code of a page, cell after cell; lines are numbered as in the page."""
    text = page.read_text(encoding="utf-8")
    lines = [""] * text.count("\n")
    for cell in CELL.finditer(text):
        if "remove-input" in cell[1]:
            continue
        first = text.count("\n", 0, cell.start(2))
        code = cell[2].splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines) + "\n"


def main(names: list[str]) -> int:
    """Write the scripts to a folder and check them."""
    pages = [path for path in sorted(DOCS.glob("*.md")) if not names or path.stem in names]
    with TemporaryDirectory() as folder:
        for page in pages:
            module = page.stem.replace("-", "_").lower()
            (Path(folder) / f"{module}.py").write_text(script(page), encoding="utf-8")
        command = [sys.executable, "-m", "mypy", "--config-file", str(DOCS / "mypy.ini"), folder]
        found = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    sys.stdout.write(found.stdout.replace(folder, "docs").replace(".py:", ".md:"))
    sys.stderr.write(found.stderr)
    return found.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
