"""From notebooks and records to the site."""
