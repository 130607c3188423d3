// Run once, by the first start of an empty MongoDB: analytics writes its history, the pipeline compares it.
const history = db.getSiblingDB("analytics");
history.createUser({
  user: "analytics",
  pwd: process.env.MONGO_PASSWORD_ANALYTICS,
  roles: [{ role: "readWrite", db: "analytics" }],
});
history.createUser({
  user: "pipeline",
  pwd: process.env.MONGO_PASSWORD_PIPELINE,
  roles: [{ role: "read", db: "analytics" }],
});
