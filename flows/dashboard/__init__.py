"""`medallion dashboard`: operations and gold as web pages, on loopback."""
