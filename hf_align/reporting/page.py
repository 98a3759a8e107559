"""Pages from templates: every value is escaped, and a missing one is an error."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

PACKAGE = Path(__file__).parent.parent
TEMPLATES = Path(__file__).parent / "templates"


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader([TEMPLATES, PACKAGE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_template(name: str, **values: Any) -> str:
    """The template ``name``, filled in; every value that is not ``Markup`` is escaped.

    ``name``: a file in ``TEMPLATES``, or the path below ``hf_align`` of one in the room of a stage.
    """
    return _environment().get_template(name).render(**values)
