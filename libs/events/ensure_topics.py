"""`python -m libs.events.ensure_topics`: create the topics that are missing, once per release."""

import asyncio
import sys

from libs.events.settings import KafkaSettings
from libs.events.topics import ensure_topics


def main() -> None:
    """Create and print what is missing. Ends with an error when an existing topic does not fit."""
    for name in asyncio.run(ensure_topics(KafkaSettings())):
        sys.stdout.write(f"created {name}\n")


if __name__ == "__main__":
    main()
