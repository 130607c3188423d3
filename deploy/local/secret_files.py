"""Files that only their owner may read."""

import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path


def write_secret(path: Path, text: str) -> None:
    """Replace a file by this text in one step; only the owner may read it (mode 600)."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def passwords(path: Path, names: Iterable[str]) -> dict[str, str]:
    """A random password per name: those kept in this file, and new ones, kept from now on, for the others."""
    kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    every = {**{name: secrets.token_urlsafe(24) for name in names}, **kept}
    if every != kept:
        write_secret(path, json.dumps(every, indent=2))
    return every
