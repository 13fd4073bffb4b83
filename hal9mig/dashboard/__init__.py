"""The page: where everything stands, in a browser, with the buttons that are legal."""
