"""Networks as plain torch modules, their configurations, and checkpoints of them."""
