"""Builds csrc/ as part of `pip install`. Everything else is in pyproject.toml."""

from setuptools import setup

setup()
