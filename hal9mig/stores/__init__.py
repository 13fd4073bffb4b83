"""Where data lives: connections to the two stores, their schemas, and SQL over declared categories."""
