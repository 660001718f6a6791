"""Words that several parts of the game share."""

#: The environment that the game's deployments are in.
ENVIRONMENT = "gameday"
#: Tables of the database, and the list of the API, as `source.table`.
TABLES = ("game.accounts", "game.events", "game.prices", "gameapi.items")
