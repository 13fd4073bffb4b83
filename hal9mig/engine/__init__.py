"""What happens: coordinating, dispatching, copying, verifying."""
