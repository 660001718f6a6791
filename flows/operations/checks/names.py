"""The alerts that the watch raises; docs/runbooks has a page for each."""

#: The warehouse does not answer, and with it the place where alerts are kept.
WAREHOUSE_DOWN = "warehouse down"
PREFECT_DOWN = "Prefect server down"
CANNOT_CHECK = "watch cannot check"
OUTBOX_STUCK = "outbox stuck"
METRICS_NOT_EXPORTED = "metrics not exported"

WATCH_ALERTS = frozenset(
    {
        WAREHOUSE_DOWN,
        PREFECT_DOWN,
        CANNOT_CHECK,
        OUTBOX_STUCK,
        METRICS_NOT_EXPORTED,
        "watch ping fails",
        "no next run",
        "no worker",
        "flow run failed",
        "flow run crashed",
        "flow run cancelled",
        "flow run restarted",
        "flow run dropped",
        "flow run late",
        "flow run pending",
        "flow runs overlap",
        "gold not built",
        "connections used up",
        "transaction open",
        "disk full soon",
        "slot retains WAL",
        "captured changes wait",
        "Prefect database large",
        "transaction ids run out",
        "certificate ends",
        "password ends",
        "clocks differ",
        "clock jumped",
        "backup overdue",
        "drill overdue",
        "WAL archive behind",
    }
)
