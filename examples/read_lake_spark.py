"""Units sold per day, from the lake with Spark: `LAKE_URL=... python examples/read_lake_spark.py`.

Needs `pip install pyspark delta-spark` of matching versions, Java, and a Maven repository within reach. A producer may
send an event twice, so events are made distinct by their id.
"""

import os

from delta import configure_spark_with_delta_pip  # type: ignore[import-not-found]
from pyspark.sql import SparkSession, functions

builder = (
    SparkSession.builder.appName("units-sold")
    .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
    .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
)
spark = configure_spark_with_delta_pip(builder).getOrCreate()
(
    spark.read.format("delta")
    .load(f"{os.environ['LAKE_URL']}/inventory-events")
    .where("transactionType = 'SALE' AND lineNo IS NOT NULL")
    .dropDuplicates(["eventId"])
    .groupBy("date")
    .agg((-functions.sum("quantityChange")).alias("unitsSold"))
    .orderBy("date")
    .show()
)
