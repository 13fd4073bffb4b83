"""The histories of the stores' schemas, applied by ``hal9mig.stores.schema``."""
