"""Renders the templates of mails and reports.

What goes into HTML is escaped, whatever it is, and no value makes lines of its own or turns the direction of others.
"""

import re
from functools import cache
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

_CONTROLS: Final = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]+")
"""Line breaks and other control characters, and those that set the direction of text."""


def one_line(text: str) -> str:
    """The text with a blank in place of control characters."""
    return _CONTROLS.sub(" ", text)


def render(template: str, **values: Any) -> str:
    """The text of a template below `templates/`. Raises when it uses a value that is not given."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("services.pipeline"),
        autoescape=select_autoescape(("html", "svg")),
        undefined=StrictUndefined,
        finalize=lambda value: one_line(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda ratio: f"{ratio:.0%}"
    environment.filters["units"] = lambda number: f"{number:,.0f}"
    return environment
