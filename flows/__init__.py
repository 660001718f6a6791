"""medallion: declared sources in, a warehouse that can be trusted out."""
