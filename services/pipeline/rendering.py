"""Renders the templates of mails and reports. What goes into HTML is escaped, whatever it is."""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape


def render(template: str, **values: Any) -> str:
    """The text of a template below `templates/`. Raises when it uses a value that is not given."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("services.pipeline"),
        autoescape=select_autoescape(("html", "svg")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda ratio: f"{ratio:.0%}"
    environment.filters["units"] = lambda number: f"{number:,.0f}"
    return environment
