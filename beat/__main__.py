"""``python -m beat``: the beat without what Celery's own command loads; ``celery -A beat.app beat`` starts the same."""

from __future__ import annotations

from beat.app import app


def main() -> None:
    """Beat until told to end."""
    app.Beat(loglevel="INFO", pidfile="").run()


if __name__ == "__main__":
    main()
