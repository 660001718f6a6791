"""Every source of the platform. A new file here needs one more line below."""

from flows.sources.currency import currency
from flows.sources.marketing import marketing
from flows.sources.shop import shop

SOURCES = (shop, marketing, currency)
