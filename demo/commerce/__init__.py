"""The demo's marketing API: campaigns, their targets, coupons and redemptions, as a commerce platform would serve them.

COMMERCE_API_KEY=… python -m demo.commerce --port 8100 --state DIR     serves day one
set_day(DIR, 2)                                                        shows day two, without a restart
"""

from demo.commerce.day import Day, read_day, set_day

__all__ = ["Day", "read_day", "set_day"]
