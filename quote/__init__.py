"""Market data, from socket to Redis, and the wire between our processes."""
