"""Declarations of common APIs. None is loaded until it is listed in `flows/sources/__init__.py`:

from flows.sources.catalog.shopify import shopify
"""
