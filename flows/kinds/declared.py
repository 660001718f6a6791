"""What a declared source may be."""

from flows.declare.database import Database, Table
from flows.kinds.api import Api, Endpoint
from flows.kinds.dlt import DltSource, Resource

Source = Database | Api | DltSource
Loadable = Table | Endpoint | Resource
