"""Airflow in an environment and a folder of its own, as `make setup-airflow` prepares it."""

import asyncio
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.stack import ROOT

INSTALLED: Final = ROOT / ".local" / "airflow"
DAGS: Final = ROOT / "deploy" / "airflow" / "dags"
DATABASE: Final = "airflow.db"
_IN_AIRFLOW: Final = Path(__file__).with_name("in_airflow.py")


def at_home(home: Path) -> dict[str, str]:
    """The variables that say where an Airflow keeps what it knows."""
    return {"AIRFLOW_HOME": str(home), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / DATABASE}"}


@dataclass(frozen=True, slots=True)
class Airflow:
    """One Airflow: its home, with a database of its own, and the variables that every command needs."""

    home: Path
    environment: Mapping[str, str]

    def copied_to(self, home: Path) -> "Airflow":
        """Another one that knows the same, to be used at the same time: SQLite is for one process."""
        shutil.copy(self.home / DATABASE, home)
        return Airflow(home, {**self.environment, **at_home(home)})

    async def command(self, *arguments: str) -> str:
        """What `airflow ...` prints. Fails with all of its output unless it succeeds."""
        return await self._run(str(INSTALLED / "bin" / "airflow"), *arguments)

    async def ask(self, question: str, *arguments: str) -> Any:
        """What a function of `in_airflow.py` answers, called in a process of this Airflow."""
        answer = self.home / "answer.json"
        await self._run(str(INSTALLED / "bin" / "python"), str(_IN_AIRFLOW), str(answer), question, *arguments)
        return json.loads(answer.read_text())

    async def _run(self, *argv: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env={**os.environ, **self.environment},
            cwd=self.home,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            output, errors = await process.communicate()
        except BaseException:
            process.kill()
            await process.wait()
            raise
        assert process.returncode == 0, f"{' '.join(argv)}\n{output.decode()}\n{errors.decode()}"
        return output.decode()
