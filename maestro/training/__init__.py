"""One loop that trains any method, and what its steps need."""
