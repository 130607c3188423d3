"""The programs that read deployment files; `make test-deploy` installs them."""

from pathlib import Path
from typing import Final

import pytest

from tests.stack import ROOT

_FOLDER: Final = ROOT / ".local" / "deploy-checks" / "bin"


def program(name: str) -> Path:
    """The path of a program; skips the test where it is not installed."""
    path = _FOLDER / name
    if not path.exists():
        pytest.skip(f"NOT CHECKED: {name} is missing, `make test-deploy` installs it")
    return path
