from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from libs.events.assignor import ByName

TOPICS = {"first": 5, "second": 3}


class Cluster(ClusterMetadata):  # type: ignore[misc]
    """A cluster with these topics."""

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(TOPICS[topic]))


def assign(names: dict[str, str | None]) -> dict[str, list[tuple[str, int]]]:
    """The partitions of each member id, as the member with the last id would assign them."""
    members = {member_id: ByName(name).metadata(TOPICS) for member_id, name in names.items()}
    assigned: dict[str, ConsumerProtocolMemberAssignment] = ByName(None).assign(Cluster(), members)
    return {
        member_id: [(topic, number) for topic, numbers in found.assignment for number in numbers]
        for member_id, found in assigned.items()
    }


def test_a_worker_that_starts_again_gets_the_partitions_it_had() -> None:
    before = assign({"id-1": "stream", "id-2": "stream-2", "id-3": "stream-3"})
    after = assign({"id-9": "stream", "id-2": "stream-2", "id-3": "stream-3"})

    assert after == {"id-9": before["id-1"], "id-2": before["id-2"], "id-3": before["id-3"]}


def test_every_partition_has_one_reader_and_none_has_two_more_than_another() -> None:
    assigned = assign({"id-1": None, "id-2": None, "id-3": "named"})

    everything = sorted(place for places in assigned.values() for place in places)
    sizes = sorted(len(places) for places in assigned.values())
    assert everything == sorted((topic, number) for topic, count in TOPICS.items() for number in range(count))
    assert sizes == [2, 3, 3]
