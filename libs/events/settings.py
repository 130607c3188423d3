"""How to reach Kafka: one block of settings for every process."""

from typing import Any, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class KafkaSettings(BaseSettings):
    """Environment variables `KAFKA_*`."""

    model_config = SettingsConfigDict(env_prefix="KAFKA_", frozen=True, extra="ignore")

    bootstrap_servers: str = Field(description="Comma-separated host:port list of brokers.")
    topic_prefix: str = Field("", description="Put before every topic and group name, for a shared cluster.")
    partitions: int = Field(12, ge=1, description="Partitions of a topic that is created.")
    replication_factor: int = Field(1, ge=1, description="Of a topic that is created; 3 in production.")
    compression: Literal["none", "gzip", "lz4", "zstd"] = Field("lz4", description="Of the batches that are sent.")
    linger_ms: int = Field(10, ge=0, description="How long the producer waits for a batch to fill, in milliseconds.")
    max_batch_bytes: int = Field(131_072, description="Upper bound of a producer batch for one partition, in bytes.")
    max_message_bytes: int = Field(4_194_304, description="Largest message that is sent or fetched, in bytes.")

    session_timeout_ms: int = Field(30_000, ge=1_000, description="After this silence a consumer is taken for dead.")
    on_gap: Literal["fail", "earliest", "latest"] = Field(
        "fail", description="What to do when records were deleted before they were applied."
    )
    on_topic_recreated: Literal["fail", "restart"] = Field(
        "fail", description="What to do when a topic was recreated or lost its tail; `restart` reads it from the start."
    )

    def topic(self, name: str) -> str:
        """The topic as the broker knows it."""
        return self.topic_prefix + name

    def connection(self) -> dict[str, Any]:
        """Arguments that every aiokafka client takes."""
        return {"bootstrap_servers": self.bootstrap_servers}
