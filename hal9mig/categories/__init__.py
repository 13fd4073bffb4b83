"""What is migrated: the declarations of categories, and how a row is transformed."""
