"""Operators of our own, each with every form a framework or runtime needs."""
