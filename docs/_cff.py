"""BibTeX from ``CITATION.cff``, so that the reference is written down once."""

from __future__ import annotations

import re
from pathlib import Path


def bibtex(path: str) -> str:
    """The entry for the software that a citation file describes."""
    text = Path(path).read_text(encoding="utf-8")
    fields = dict(re.findall(r'^(\w[\w-]*): *"?([^"\n]+?)"?$', text, flags=re.MULTILINE))
    authors = re.findall(r"^ +- name: (.+)$", text, flags=re.MULTILINE)
    lines = [
        "@software{interlace,",
        f"  title = {{{fields['title']}}},",
        f"  author = {{{' and '.join('{' + name + '}' for name in authors)}}},",
        f"  version = {{{fields['version']}}},",
    ]
    if "date-released" in fields:
        lines.append(f"  year = {{{fields['date-released'][:4]}}},")
    return "\n".join([*lines, "}"])
