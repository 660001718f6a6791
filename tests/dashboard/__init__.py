"""The dashboard, over a real warehouse and a real server on loopback."""
