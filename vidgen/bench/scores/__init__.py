"""Quality scores of generated videos: one file a score, one a protocol, and `score` that runs a protocol."""
