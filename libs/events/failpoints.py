"""Places where a crash hurts most, so that a test can crash there: `STOCKFLOW_FAILPOINTS=relay.sent=0.01,...`.

Each name is given the probability of a SIGKILL each time the place is passed. Unset, a failpoint does nothing.
A process that dies of one leaves a line with TRACE and the name on standard error.
"""

import os
import random
import signal
from typing import Annotated, Any, Final

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

TRACE: Final = "died at failpoint "


class _Failpoints(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="STOCKFLOW_", frozen=True, extra="ignore")

    failpoints: Annotated[dict[str, float], NoDecode] = Field({}, description="Name=probability, comma-separated.")

    @field_validator("failpoints", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        return dict(pair.split("=", 1) for pair in value.split(",") if pair) if isinstance(value, str) else value


_PROBABILITIES: Final = _Failpoints().failpoints


def failpoint(name: str) -> None:
    """Die here, with the probability that was asked for."""
    if _PROBABILITIES and random.random() < _PROBABILITIES.get(name, 0.0):
        os.write(2, f"{TRACE}{name}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)
