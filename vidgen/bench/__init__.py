"""How fast artifacts run, and how good their videos are."""
