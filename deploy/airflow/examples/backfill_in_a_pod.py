"""A long backfill in a pod of its own: the same command line as on a laptop, on the image of the pipeline.

Copy it beside `stockflow.py` and set image, namespace and addresses. The pod needs what the pipeline's pods need: see
deploy/k8s/base/pipeline/batch.yaml.
"""

from datetime import UTC, datetime

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG, Param
from kubernetes.client import models

IMAGE = "stockflow-pipeline:0.1.0"
NAMESPACE = "stockflow"
SETTINGS = {"KAFKA_BOOTSTRAP_SERVERS": "kafka:9092", "LAKE_URL": "s3://stockflow/lake", "BATCH_MEMORY_LIMIT": "4GiB"}
NEEDS = {f"stockflow/needs-{store}": "true" for store in ("postgres", "kafka", "mongo", "redis", "lake")}

with DAG(
    "backfill_in_a_pod",
    schedule=None,
    start_date=datetime(1970, 1, 1, tzinfo=UTC),
    params={
        "job": Param("inventory_etl", type="string"),
        "start": Param(type="string", format="date"),
        "end": Param(type="string", format="date", description="Not part of the range."),
        "which": Param("missing", enum=["missing", "failed", "all"]),
    },
    tags=["stockflow"],
):
    KubernetesPodOperator(
        task_id="backfill",
        namespace=NAMESPACE,
        image=IMAGE,
        arguments=[
            *("services.pipeline.jobs", "backfill", "{{ params.job }}"),
            *("--from", "{{ params.start }}", "--to", "{{ params.end }}", "--which", "{{ params.which }}"),
        ],
        env_vars=SETTINGS,
        # DATABASE_URL, MONGO_URL, REDIS_URL
        env_from=[models.V1EnvFromSource(secret_ref=models.V1SecretEnvSource(name="pipeline-secrets"))],
        service_account_name="pipeline",
        labels=NEEDS,
        container_resources=models.V1ResourceRequirements(
            requests={"cpu": "1", "memory": "4Gi"}, limits={"memory": "6Gi"}
        ),
        security_context={
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        container_security_context={"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        # An interval that has succeeded is not missing any more: a retry goes on where the pod before it died.
        retries=2,
        get_logs=True,
        on_finish_action="delete_succeeded_pod",
    )
