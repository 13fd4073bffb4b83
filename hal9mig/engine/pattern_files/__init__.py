"""Learning data as files: exported, converted, and taken into the hierarchical store."""
