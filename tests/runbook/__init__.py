"""The runbooks that the product is held to: the operators' own, as it was handed over, line by line."""
