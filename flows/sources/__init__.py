"""Every source this platform reads. A new file here is one line more below."""

from flows.sources.currency import currency
from flows.sources.marketing import marketing
from flows.sources.shop import shop

SOURCES = (shop, marketing, currency)
