"""Data that the chapters use; the default sets need no network."""
