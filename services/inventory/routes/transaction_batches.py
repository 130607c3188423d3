"""Batches of independent stock transactions, posted with one set of locks and writes."""

from typing import Literal

from fastapi import APIRouter

from libs.chassis.problems import ProblemError
from services.inventory import ledger
from services.inventory.outcome import Outcome, Posted, Rejected
from services.inventory.refusal import Refused
from services.inventory.routes.access import Operator, refusals
from services.inventory.routes.posting import DatabasePool
from services.inventory.schemas.stock import (
    ResultProblem,
    TransactionBatchIn,
    TransactionBatchOut,
    TransactionResult,
)
from services.inventory.statuses import REFUSALS

router = APIRouter(prefix="/api/v1/transaction-batches", tags=["transactions"], responses=refusals(409))


@router.post("")
async def post_transaction_batch(
    body: TransactionBatchIn, pool: DatabasePool, principal: Operator
) -> TransactionBatchOut:
    """Post up to 1,000 documents in order. Each has a result of its own; sending the batch again changes nothing.

    `rejectAll` posts nothing if one document is refused, `acceptValid` posts the others.
    """
    principal.check_warehouses(*{each for document in body.transactions for each in document.warehouse_ids})
    documents = [document.document(principal.name) for document in body.transactions]
    outcomes = await ledger.post(pool, documents, body.error_policy)
    results = [_result(index, outcome) for index, outcome in enumerate(outcomes)]
    statuses = [result.status for result in results]
    return TransactionBatchOut(
        results=results,
        posted=statuses.count("posted"),
        replayed=statuses.count("replayed"),
        rejected=statuses.count("rejected"),
    )


def _result(index: int, outcome: Outcome) -> TransactionResult:
    transaction_id = outcome.document.transaction_id
    if isinstance(outcome, Rejected):
        problem = _problem(outcome.error)
        return TransactionResult(index=index, transaction_id=transaction_id, status="rejected", problem=problem)
    status: Literal["posted", "replayed"] = "posted" if isinstance(outcome, Posted) else "replayed"
    return TransactionResult(index=index, transaction_id=transaction_id, status=status, problem=None)


def _problem(refusal: Refused) -> ResultProblem:
    _, code = REFUSALS[type(refusal)]
    return ResultProblem(code=code, detail=str(refusal), errors=[ProblemError(**fault) for fault in refusal.errors])
