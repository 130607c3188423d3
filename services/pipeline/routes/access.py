"""Who may call."""

from typing import Annotated

from fastapi import Depends

from libs.chassis.auth import Principal, require

Reader = Annotated[Principal, Depends(require("pipeline:read"))]
Operator = Annotated[Principal, Depends(require("ops:read"))]
Starter = Annotated[Principal, Depends(require("pipeline:run"))]
