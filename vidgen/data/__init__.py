"""Clips: the store on disk, what turns videos and images into one, and the built-in synthetic sets."""
