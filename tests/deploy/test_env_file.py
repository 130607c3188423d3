"""Stacks side by side keep their addresses apart."""

from pathlib import Path

from deploy.local.stack import Stack


def test_a_stack_writes_its_addresses_into_its_own_directory(tmp_path: Path) -> None:
    demo, chaos = (Stack(tmp_path / name).env_file for name in ("demo", "chaos"))

    assert (demo, chaos) == (tmp_path / "demo" / "stack.env", tmp_path / "chaos" / "stack.env")


def test_a_stack_writes_its_addresses_where_it_is_told(tmp_path: Path) -> None:
    assert Stack(tmp_path / "up", env_file=tmp_path / "stack.env").env_file == tmp_path / "stack.env"
