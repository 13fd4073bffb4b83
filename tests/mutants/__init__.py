"""The code with one rule of docs/correctness.md left out at a time, and the tests that notice each."""
