"""Whatever comes from outside, drawn by a fuzzer that follows the code: our own error, or a right result."""
