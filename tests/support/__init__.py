"""What the tests stand on: real servers, processes, stores, writers."""
