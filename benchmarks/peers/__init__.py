"""The same job in other programs: events from Kafka to positions and daily sums in Postgres.

Each runs in an environment of its own (`make bench` makes it from the lock beside it), so these modules import
nothing of Stockflow. BENCH_KAFKA, BENCH_TOPIC, BENCH_GROUP and BENCH_DATABASE_URL say where.
"""
