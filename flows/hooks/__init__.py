"""Functions that declarations name: signatures of APIs that no standard describes. See docs/apis.md#signed-requests."""
