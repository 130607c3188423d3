"""Settings of the reorder service."""

from pydantic import Field

from libs.chassis.settings import ServiceSettings
from libs.events.settings import KafkaSettings


class Settings(ServiceSettings):
    """Environment variables of the processes `api`, `consume` and `relay`."""

    kafka: KafkaSettings = Field(default_factory=KafkaSettings, description="How to reach Kafka: `KAFKA_*`.")
    flush_max_records: int = Field(20_000, ge=1, description="Most records that one transaction of `consume` applies.")
    flush_max_age_seconds: float = Field(0.2, gt=0, description="Longest time that `consume` waits for more records.")
