"""Who may call."""

from typing import Annotated

from libs.chassis.auth import Principal, require

Reader = Annotated[Principal, require("pipeline:read")]
Operator = Annotated[Principal, require("ops:read")]
Starter = Annotated[Principal, require("pipeline:run")]
