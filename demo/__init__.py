"""The data of the demo: a real grocery shop and the marketing API beside it."""
