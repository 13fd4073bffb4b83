"""The application that ``celery -A workers.app worker`` and Flower load."""

from __future__ import annotations

import os

from hal9mig import settings
from hal9mig.queue import app as queue_app

SETTINGS = settings.load(environ=os.environ)
app = queue_app.make(SETTINGS)
app.conf.imports = ("workers.tasks", "workers.bootstrap", "workers.health")
