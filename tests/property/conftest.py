"""The driver that the examples of one module share."""

from tests.integration.conftest import shared

__all__ = ["shared"]
