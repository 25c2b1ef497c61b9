"""Settings of the documentation site (Sphinx); ``make docs`` builds it."""

import os
import re
import sys
from importlib.metadata import version as installed
from pathlib import Path

import numpy as np
import numpy.typing
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))  # for `benchmarks.report`, which the performance page uses

project = "interlace"
author = "interlace developers"
project_copyright = author
version = release = installed("interlace")

extensions = ["myst_nb", "numpydoc", "sphinx.ext.autodoc"]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
default_role = "code"
highlight_language = "text"  # of blocks that name none; cells are Python anyway

# ---------------------------------------------------------------- pages

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Every page runs from top to bottom in every build. Nothing is cached, and a cell that fails is a
# warning, which ends the build.
nb_execution_mode = "inline"
nb_execution_timeout = 120
nb_execution_show_tb = True
nb_merge_streams = True
nb_eval_name_regex = r".+"
nb_render_markdown_format = "myst"

# Cells run without the IPython settings of whoever builds; the kernel logs errors only.
PROFILE = HERE / "_build" / "ipython" / "profile_default"
PROFILE.mkdir(parents=True, exist_ok=True)
(PROFILE / "ipython_kernel_config.py").write_text("c.IPKernelApp.log_level = 40\n")
os.environ["IPYTHONDIR"] = str(PROFILE.parent)

# ---------------------------------------------------------------- reference

# Signatures show these two by their names instead of what they stand for.
numpy.typing.ArrayLike = type("ArrayLike", (), {"__module__": "numpy.typing"})
numpy.typing.NDArray = np.ndarray
import interlace  # noqa: E402 (only now, so that it sees them)
import interlace.choices  # noqa: E402

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 72
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# Every reference must resolve, but for types in signatures: those of other packages, and those of
# the library that nobody has to make.
nitpicky = True
nitpick_ignore_regex = [
    (
        "py:.*",
        r"(np|numpy|pd|pandas|p9|plotnine|scipy|polars|marginaleffects|collections|pathlib)\..*",
    ),
    ("py:.*", r"(ArrayLike|NDArray|DataFrame|Series|ggplot|Callable|Iterable|Sequence|Mapping)"),
    ("py:class", r"(interlace\..*\.)?(Design|Encoding|Estimate|MixedFormula|Options|Scale|Table)"),
    ("py:class", r"(interlace\..*\.)?(Coefficients|Figure|FittedScaledModel|Hypothesis|Reference)"),
    ("py:class", r"(interlace\..*\.)?(Arguments|Cluster|Family|Link|M|Names)"),
    ("py:class", r"(interlace\..*\.)?(Asked|E|ForMakeTables|GeneralMeans|Seed|Sizes|Spread)"),
    # Choices by name, which the text of every parameter lists.
    ("py:.*", r"(interlace\.choices\.)?(" + "|".join(vars(interlace.choices)) + ")"),
]

# ---------------------------------------------------------------- looks

html_theme = "furo"  # plain, kept up, readable on a phone, needs nothing from other servers
html_title = "interlace"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_show_copyright = False
html_copy_source = False
pygments_style = "default"


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-signature", without_constructor)
    app.connect("doctree-resolved", short_references)
    app.connect("missing-reference", public_name)


def without_constructor(app: Sphinx, what: str, *_: object) -> tuple[str, None] | None:
    """Classes without their arguments: users get such objects, and do not make them."""
    return ("", None) if what == "class" else None


def short_references(app: Sphinx, page: nodes.document, name: str) -> None:
    """References as [1], without what numpydoc adds to make them unique on a page."""
    for text in list(page.findall(nodes.Text)):
        short = re.sub(r"\bR[0-9a-f]{12}-(\d+)", r"\1", text)
        if short != text:
            text.parent.replace(text, nodes.Text(short))


# What the verbs of a result take: users have the result.
PARTS = {
    "FittedModel": "CrossedLMEResult",
    "TestedModel": "CrossedLMEResult",
    "Labelled": "CrossedLMEResult",
    "FittedGeneralModel": "CrossedGLMMResult",
    "TestedGeneralModel": "CrossedGLMMResult",
    "FittedStructuredModel": "StructuredLMEResult",
    "TestedStructuredModel": "StructuredLMEResult",
}


def public_name(
    app: Sphinx, env: BuildEnvironment, node: nodes.Element, text: nodes.TextElement
) -> nodes.Element | None:
    """References to a function by the module it is written in lead to its public name."""
    last = node["reftarget"].rpartition(".")[2]
    last = PARTS.get(last, last)
    if node.get("refdomain") != "py" or last not in interlace.__all__:
        return None
    domain, target = env.domains["py"], f"interlace.{last}"
    return domain.resolve_xref(
        env, node["refdoc"], app.builder, node["reftype"], target, node, text
    )
