"""The data of the demo: a real grocery shop and its marketing API."""
