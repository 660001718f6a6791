"""The game day: faults at random in a private world, and what the platform made of them. See docs/gameday.md."""
