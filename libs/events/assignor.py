"""Which worker of a group reads which partitions: the same ones after a restart, whoever does the assigning."""

from collections.abc import Iterable, Mapping

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata


class ByName(RoundRobinPartitionAssignor):  # type: ignore[misc]
    """Round robin in the order of the workers' own names.

    Clients order by member id, which a worker that starts again gets anew. A broker that takes it back without a
    rebalance, as for static members, may then be told partitions for it that another worker still reads; nobody
    would read the rest. Keeping partitions over a rebalance would gain nothing: all are given back before, anyhow.
    """

    name = "stockflow-by-name"

    def __init__(self, member_name: str | None) -> None:
        self._member_name = member_name or ""

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """What the worker tells the one that does the assigning: its topics and its name."""
        return ConsumerProtocolMemberMetadata(self.version, sorted(topics), self._member_name.encode())

    def assign(
        self, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """The partitions of each member, by member id."""
        named = {
            f"{(member.user_data or b'').decode()}\n{member_id}": member_id for member_id, member in members.items()
        }
        assigned = super().assign(cluster, {name: members[member_id] for name, member_id in named.items()})
        return {named[name]: assignment for name, assignment in assigned.items()}
