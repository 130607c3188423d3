"""SQL of the inventory service: a function per statement."""
