"""Training: settings and presets, the loops, and checkpoints that survive a kill."""
