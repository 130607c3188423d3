"""The proof under faults: nothing lost, nothing twice, whatever is killed."""
