"""Numbers from run records and published tables; nothing here trains."""
