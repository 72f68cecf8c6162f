"""Networks that describe clips by features."""
