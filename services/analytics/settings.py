"""Settings of the analytics service."""

from pydantic import Field, SecretStr

from libs.chassis.settings import ServiceSettings
from libs.events.settings import KafkaSettings


class Settings(ServiceSettings):
    """Environment variables of the processes `api` and `consume`."""

    mongo_url: SecretStr = Field(
        description="MongoDB connection string; its database is `analytics` unless it names one."
    )
    redis_url: SecretStr | None = Field(None, description="Redis for answers that are expensive; none = no cache.")
    cache_seconds: int = Field(60, ge=1, description="How long an expensive answer is kept, at most.")
    kafka: KafkaSettings = Field(default_factory=KafkaSettings, description="How to reach Kafka: `KAFKA_*`.")
    flush_max_records: int = Field(
        20_000,
        ge=1,
        description="Most records that one write of `consume` covers. Of a metric, only the last one in it is written.",
    )
    flush_max_age_seconds: float = Field(0.5, gt=0, description="Longest time that `consume` waits for more records.")
