"""Declarations of APIs that many companies use. None is read until its name stands in `flows/sources/__init__.py`:

from flows.sources.catalog.shopify import shopify
"""
