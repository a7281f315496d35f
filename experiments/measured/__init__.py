"""Sections of experiments/performance.md, a file each."""
