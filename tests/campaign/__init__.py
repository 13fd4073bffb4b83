"""The fault campaign: rounds of a migration under live traffic, in which everything fails that can."""
