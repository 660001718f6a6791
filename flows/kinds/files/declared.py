"""A folder that files are dropped into. Literals only."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from flows.declare.ask import Ask, refuse_ask
from flows.declare.budget import Budget, refuse_budget
from flows.declare.freshness import Freshness, refuse_freshness
from flows.declare.refusals import refuse_repeats, unknown_table
from flows.kinds.files.ready import Ready, Settled, refuse_ready
from flows.kinds.files.release import Archive, Delete, Leave, Release
from flows.kinds.files.table import FileTable
from flows.values.errors import DeclarationError
from flows.values.identifiers import require_plain


@dataclass(frozen=True, slots=True)
class Files:
    """A folder that files are dropped into.

        Files("bank", connection="drop", tables=[FileTable(…)])
        Files("bank", connection="drop", ready=Marker("{name}.done"), tables=[…])

    `connection` names it in the environment (MEDALLION_SOURCE_<CONNECTION>_URL: the path of a folder,
    `s3://bucket/prefix`, or another address that fsspec reads) and among the blocks (source-<connection>). `ready` says
    when a file is complete.
    `acknowledge` is what becomes of a file after the commit of its rows: Leave(), Archive("done") or Delete().
    `max_expansion` is how many times larger than its packed bytes a file may become: beyond it, a file of more than
    100 MB is taken for a decompression bomb. The other options are as for a Database.
    """

    name: str
    connection: str
    tables: Sequence[FileTable]
    ready: Ready = field(default_factory=Settled)
    acknowledge: Release = field(default_factory=Leave)
    max_expansion: int = 200
    schedule: str | None = None
    max_parallel: int = 4
    description: str = ""
    freshness: Freshness | None = None
    budget: Budget | None = None
    on_refusal: Ask | None = None

    @property
    def kind(self) -> str:
        """The folder in flows/kinds that knows how to read it."""
        return "files"

    @property
    def raw_schema(self) -> str:
        """The schema of its raw tables: `raw_bank`."""
        return f"raw_{self.name}"

    def __post_init__(self) -> None:
        where = f"source {self.name}"
        require_plain(self.name, "source", where)
        require_plain(self.connection, "connection", where)
        refuse_freshness(self.freshness, where)
        refuse_budget(self.budget, where)
        refuse_ask(self.on_refusal, where)
        if not self.tables:
            raise DeclarationError("no tables", where=where, fix="declare at least one FileTable")
        refuse_repeats([table.name for table in self.tables], "table", where)
        refuse_ready(self.ready, where)
        if not isinstance(self.acknowledge, Leave | Archive | Delete):
            raise DeclarationError(
                f"acknowledge={self.acknowledge!r} does not say what becomes of a file",
                where=where,
                fix='write Leave(), Archive("done") or Delete()',
            )
        if self.max_expansion < 1:
            raise DeclarationError("max_expansion is below 1", where=where, fix="write 200, or more")
        object.__setattr__(self, "tables", tuple(self.tables))

    def table(self, name: str) -> FileTable:
        """The declared table of that name.

        Raises:
            DeclarationError: there is none.
        """
        for table in self.tables:
            if table.name == name:
                return table
        raise unknown_table(self.name, name, [table.name for table in self.tables])
