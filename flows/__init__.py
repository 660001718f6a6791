"""medallion: loads declared sources into a PostgreSQL warehouse and builds dbt models on them."""
