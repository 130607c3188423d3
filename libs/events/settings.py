"""How to reach Kafka: one block of settings for every process."""

from pathlib import Path
from typing import Any, Final, Literal, Self

from aiokafka.helpers import create_ssl_context
from pydantic import Field, HttpUrl, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from libs.events.oauth import ClientCredentials

MAX_MESSAGE_BYTES: Final = 4_194_304


class KafkaSettings(BaseSettings):
    """Environment variables `KAFKA_*`."""

    model_config = SettingsConfigDict(env_prefix="KAFKA_", frozen=True, extra="ignore")

    bootstrap_servers: str = Field(description="Comma-separated host:port list of brokers.")
    topic_prefix: str = Field("", description="Put before every topic and group name, for a shared cluster.")
    partitions: int = Field(12, ge=1, description="Partitions of a topic that is created.")
    replication_factor: int = Field(1, ge=1, description="Of a topic that is created; 3 in production.")
    compression: Literal["none", "gzip", "lz4", "zstd"] = Field(
        "zstd",
        description="Of the batches that are sent. lz4 takes four times the CPU time: aiokafka uses its level 9.",
    )
    linger_ms: int = Field(10, ge=0, description="How long the producer waits for a batch to fill, in milliseconds.")
    max_batch_bytes: int = Field(131_072, description="Upper bound of a producer batch for one partition, in bytes.")
    max_message_bytes: int = Field(
        MAX_MESSAGE_BYTES, ge=65_536, description="Largest message that is sent or fetched, in bytes."
    )
    session_timeout_ms: int = Field(30_000, ge=1_000, description="After this silence a consumer is taken for dead.")
    group_instance_id: str | None = Field(
        None, description="Unique name of the process in its group: a restart takes its partitions over at once."
    )
    fetch_pause_ms: int = Field(
        0,
        ge=0,
        description="Rest between fetches, for a broker that answers an empty fetch at once; 0 = it waits itself.",
    )
    on_gap: Literal["fail", "earliest", "latest"] = Field(
        "fail", description="What to do when records were deleted before they were applied."
    )
    on_topic_recreated: Literal["fail", "restart"] = Field(
        "fail", description="What to do when a topic was recreated or lost its tail; `restart` reads it from the start."
    )
    on_dead_letter_flood: Literal["alarm", "stop"] = Field(
        "alarm",
        description="What to do after 100 dead letters in a row: raise an alarm and go on, or stop until a restart.",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How to talk to the brokers."
    )
    ca_file: Path | None = Field(None, description="PEM file of the authority to trust; the system's when missing.")
    cert_file: Path | None = Field(None, description="PEM file of our certificate, where brokers ask for one.")
    key_file: Path | None = Field(None, description="PEM file of our private key.")
    key_password: SecretStr | None = Field(None, description="Of the private key.")
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = Field(
        None, description="How to log in; needed by the SASL protocols."
    )
    sasl_username: str | None = Field(None, description="For PLAIN and SCRAM.")
    sasl_password: SecretStr | None = Field(None, description="For PLAIN and SCRAM.")
    oauth_token_url: HttpUrl | None = Field(None, description="Where OAUTHBEARER asks for tokens.")
    oauth_client_id: str | None = Field(None, description="For OAUTHBEARER.")
    oauth_client_secret: SecretStr | None = Field(None, description="For OAUTHBEARER.")
    oauth_scope: str | None = Field(None, description="For OAUTHBEARER, where the server asks for it.")

    @model_validator(mode="after")
    def _login_is_complete(self) -> Self:
        needed = {
            None: (),
            "OAUTHBEARER": ("oauth_token_url", "oauth_client_id", "oauth_client_secret"),
        }.get(self.sasl_mechanism, ("sasl_username", "sasl_password"))
        missing = [f"KAFKA_{name.upper()}" for name in needed if getattr(self, name) is None]
        if self.security_protocol.startswith("SASL") and self.sasl_mechanism is None:
            missing = ["KAFKA_SASL_MECHANISM"]
        if missing:
            raise ValueError(f"{self.security_protocol} {self.sasl_mechanism or ''} needs {', '.join(missing)}")
        return self

    def topic(self, name: str) -> str:
        """The topic as the broker knows it."""
        return self.topic_prefix + name

    def connection(self) -> dict[str, Any]:
        """Arguments that every aiokafka client takes."""
        arguments: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol.endswith("SSL"):
            arguments["ssl_context"] = create_ssl_context(
                cafile=self.ca_file,
                certfile=self.cert_file,
                keyfile=self.key_file,
                password=_revealed(self.key_password),
            )
        if self.sasl_mechanism == "OAUTHBEARER":
            arguments["sasl_oauth_token_provider"] = ClientCredentials(
                str(self.oauth_token_url),
                str(self.oauth_client_id),
                _revealed(self.oauth_client_secret),
                self.oauth_scope,
            )
        elif self.sasl_mechanism:
            arguments["sasl_plain_username"] = self.sasl_username
            arguments["sasl_plain_password"] = _revealed(self.sasl_password)
        return arguments | ({"sasl_mechanism": self.sasl_mechanism} if self.sasl_mechanism else {})


def _revealed(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None
