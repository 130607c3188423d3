"""The inventory service: products, warehouses, stock levels, the ledger and reservations."""
