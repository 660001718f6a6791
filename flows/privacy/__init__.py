"""Erasure of a subject's rows on request, and deletion of rows after their retention period.

Takes open connections of the caller, one per role that owns tables.
"""
