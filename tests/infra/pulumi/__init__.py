"""The cloud without a cloud: every stack's whole graph, recorded once a session."""
