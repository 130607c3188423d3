"""`python -m services.inventory api|relay`: one process, one job."""

import argparse
from typing import NoReturn

from libs.chassis import process
from libs.events.relay import run_relay
from libs.events.settings import KafkaSettings
from services.inventory.app import create_app
from services.inventory.settings import Settings


def serve_api() -> NoReturn:
    """Serve the REST API."""
    settings = Settings()
    process.serve(create_app(settings), settings, "inventory-api")


def relay_outbox() -> NoReturn:
    """Send the outbox to Kafka."""
    settings, kafka, name = Settings(), KafkaSettings(), "inventory-relay"
    url = settings.database_url.get_secret_value()
    process.run(lambda stop: run_relay(stop, database_url=url, kafka=kafka, name=name), settings=settings, name=name)


COMMANDS = {"api": serve_api, "relay": relay_outbox}


def main() -> None:
    """Run the process that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m services.inventory", description=__doc__)
    parser.add_argument("process", choices=COMMANDS)
    COMMANDS[parser.parse_args().process]()


if __name__ == "__main__":
    main()
