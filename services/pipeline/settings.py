"""Settings of the pipeline service."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, HttpUrl, SecretStr, TypeAdapter

from libs.chassis.settings import ServiceSettings
from libs.events.settings import KafkaSettings

MailAddress = Annotated[str, Field(pattern=r"^[!-?A-~]+@[!-?A-~]+$")]


def _plain_folder(url: str) -> str:
    """The address. Raises ValueError for a folder that the lake's readers and writers would not all find alike."""
    if not url.startswith("s3://") and re.search(r"^~|%[0-9A-Fa-f]{2}|[\x00-\x1f\x7f]", url):
        raise ValueError("a folder must not begin with ~, which nobody expands, nor hold a percent escape or a newline")
    return url


def _file_or_endpoint(url: str) -> str:
    """The address. Raises ValueError for an http(s):// one that nothing could be sent to."""
    if url.startswith(("http://", "https://")):
        TypeAdapter(HttpUrl).validate_python(url)
    return url


class Settings(ServiceSettings):
    """Environment variables of every pipeline process."""

    kafka: KafkaSettings = Field(default_factory=KafkaSettings, description="Read from KAFKA_*.")
    redis_url: SecretStr = Field(description="Redis, where stock and metrics are cached.")
    mongo_url: SecretStr = Field(
        description="MongoDB with the history, read by the reconciliation and by data_quality_check."
    )
    lake_url: Annotated[str, AfterValidator(_plain_folder)] = Field(
        pattern=r"^(s3://[^/].*|/.*|[^:]+)$",
        description="Folder or s3:// address of the lake. For S3, AWS_* variables say where it is and who asks.",
    )
    metrics_clock: Literal["wall", "event"] = Field(
        "wall", description="What today is: the UTC date, or the latest date among ledger events (replays of history)."
    )
    stream_flush_records: int = Field(15_000, ge=1, description="Most records in one write of the stream.")
    stream_flush_seconds: float = Field(0.2, gt=0, description="Longest time that the stream collects, in seconds.")
    metrics_interval_seconds: float = Field(
        5.0, ge=0, description="Shortest time between two calculations of a stock item, in seconds."
    )
    metrics_catch_up_seconds: float = Field(
        60.0, ge=0, description="Longest time between two recalculations of all items while the day keeps advancing."
    )
    metrics_batch_items: int = Field(2_000, ge=1, description="Most stock items in one transaction of the metrics.")
    dimensions_interval_seconds: float = Field(
        60.0, gt=0, description="Time between two looks at products, categories and warehouses, in seconds."
    )
    hourly_facts_months: int | None = Field(
        None, ge=1, description="Whole months that hourly facts are kept beside the present one; for ever by default."
    )
    daily_facts_months: int | None = Field(
        None,
        ge=4,
        description="The same for daily facts, from which metrics are calculated; totals over all time lose what goes.",
    )
    fact_partition_rows: int = Field(
        10_000, ge=1, description="A past month with so many facts of a kind gets a partition of its own."
    )
    archive_flush_records: int = Field(50_000, ge=1, description="Most records in one commit of the lake.")
    archive_flush_bytes: int = Field(
        16 * 2**20,
        ge=1,
        description="Most bytes of values in one commit of the lake. Bounds the memory: as much is read ahead, and "
        "decoded records take several times their bytes.",
    )
    lake_retention_days: int = Field(7, ge=1, description="How long old versions of the lake can be read, in days.")
    archive_flush_seconds: float = Field(60.0, gt=0, description="Longest time that the archive collects, in seconds.")
    batch_database_url: SecretStr | None = Field(
        None, description="Postgres DSN that batch jobs read from, such as a replica's; DATABASE_URL by default."
    )
    batch_engine: Literal["duckdb", "spark"] = Field("duckdb", description="What the batch jobs calculate with.")
    batch_memory_limit: str = Field(
        "1GiB",
        pattern=r"^[1-9][0-9]*(MiB|GiB)$",
        description="Most memory of one run's engine; what needs more is spilled to disk.",
    )
    batch_spill_folder: str | None = Field(
        None, description="Where the engine spills what exceeds its memory; the folder for temporary files by default."
    )
    batch_spill_limit: str = Field(
        "8GiB",
        pattern=r"^[1-9][0-9]*(MiB|GiB)$",
        description="Most that DuckDB spills in one run; a run that needs more fails.",
    )
    openlineage_url: Annotated[str, AfterValidator(_file_or_endpoint)] | None = Field(
        None,
        description="Where runs tell which data they read and wrote, as OpenLineage events: an http(s):// endpoint, "
        "such as Marquez' /api/v1/lineage, or a file that gets one JSON object per line. Not told by default.",
    )
    batch_slots: int = Field(2, ge=1, description="Most runs that one batch process executes at a time.")
    batch_poll_seconds: float = Field(1.0, gt=0, description="Longest time that a queued run waits for a free slot.")
    batch_heartbeat_seconds: float = Field(5.0, gt=0, description="Time between two signs of life of a run.")
    batch_lost_seconds: float = Field(
        30.0, gt=0, description="A run that gives no sign of life for so long is taken for dead."
    )
    stockout_lead_time_days: float = Field(
        7.0,
        gt=0,
        description="Days until what is ordered now can be delivered, where no supplier's lead time is known. Stockout "
        "risk is that demand until then exceeds what is available (alerts) or was on hand (daily metrics).",
    )
    stockout_review_days: float = Field(1.0, ge=0, description="Days until somebody looks at the stock again.")
    stockout_service_level: float = Field(
        0.95,
        gt=0.5,
        lt=1,
        description="Wanted probability that what is available lasts until the delivery; less raises an alert.",
    )
    smtp_url: SecretStr | None = Field(
        None,
        description="Mail server: smtp://host:25 (plain), smtp+starttls://user:password@host:587 or "
        "smtps://user:password@host:465. Without it mails are kept, and sent once there is one.",
    )
    mail_from: MailAddress = Field("stockflow@localhost", description="Sender of alerts and reports.")
    mail_recipients: list[MailAddress] = Field(
        [],
        description="JSON list of addresses that get the weekly summary, and alerts of warehouses without their own.",
    )
    mail_warehouse_recipients: dict[str, list[MailAddress]] = Field(
        {}, description="JSON object: warehouse -> addresses that get its alerts."
    )
    mail_poll_seconds: float = Field(5.0, gt=0, description="Longest time that a mail waits to be sent, in seconds.")
    mail_retry_seconds: float = Field(
        60.0, gt=0, description="Pause after a mail could not be sent; doubled each time, up to an hour."
    )
    mail_give_up_days: float = Field(5.0, gt=0, description="How long a mail is tried, in days.")
    alert_retention_days: int = Field(
        365, ge=1, description="How long resolved alerts, and mails that were sent or given up, are kept, in days."
    )
    run_retention_days: int = Field(
        90,
        ge=1,
        description="How long runs that have ended, and what they have logged, are kept, in days. Of each interval the "
        "latest run that each has asked for and the latest successes stay, without their logs.",
    )
    scheduler: Literal["embedded", "external"] = Field(
        "embedded",
        description="Who starts the runs of schedules.yaml: the schedule process, or something else, such as Airflow. "
        "The process watches deadlines either way.",
    )
    scheduler_poll_seconds: float = Field(
        1.0, gt=0, description="Longest time from the end of an interval, or the leader's death, to the next look."
    )
