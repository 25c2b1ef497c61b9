"""Checks the links between built pages: every file and every anchor must be there.

``python docs/check_links.py docs/_build/html`` names each link that leads nowhere and ends with
status 1 if there is one.  Links to other sites are not followed.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Pages that Sphinx makes; their links are made on the reader's machine.
GENERATED = {"search.html", "genindex.html", "py-modindex.html"}


class Page(HTMLParser):
    """Anchors of a page, and what it links to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and (name == "id" or (name == "name" and tag == "a")):
                self.anchors.add(value)
            elif value and name in ("href", "src"):
                self.links.append(value)


def broken(root: Path) -> list[str]:
    """One line for every link between files of ``root`` that leads nowhere."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in root.rglob("*.html")}
    if not pages:
        return [f"no pages in {root}"]
    found: list[str] = []
    for path, page in pages.items():
        if path.name in GENERATED:
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchors = pages[target].anchors if target in pages else None
            missing = not target.exists() or (
                bool(parts.fragment)
                and anchors is not None
                and unquote(parts.fragment) not in anchors
            )
            if missing:
                found.append(f"{path.relative_to(root)}: {link}")
    return found


def main() -> int:
    root = Path(sys.argv[1]).resolve()
    found = broken(root)
    for line in found:
        sys.stderr.write(f"broken link in {line}\n")
    if not found:
        sys.stdout.write(f"links: all good; open {root / 'index.html'}\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
