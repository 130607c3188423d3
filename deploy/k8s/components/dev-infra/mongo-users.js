// Run once, by the first start of an empty MongoDB: analytics writes its history, the pipeline reads what is published.
const history = db.getSiblingDB("analytics");
const published = ["transactions_v1", "metric_history_v1", "reorder_events_v1"];
history.createUser({
  user: "analytics",
  pwd: process.env.MONGO_PASSWORD_ANALYTICS,
  roles: [{ role: "readWrite", db: "analytics" }],
});
history.createRole({
  role: "published_reader",
  privileges: published.map((view) => ({ resource: { db: "analytics", collection: view }, actions: ["find"] })),
  roles: [],
});
history.createUser({
  user: "pipeline",
  pwd: process.env.MONGO_PASSWORD_PIPELINE,
  roles: [{ role: "published_reader", db: "analytics" }],
});
